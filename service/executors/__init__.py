"""How a job is run; one file is one way. `base` is the seam, `local` the way that needs nothing but this machine."""
