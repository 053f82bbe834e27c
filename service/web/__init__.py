"""Files for browsers: style, icon, and in `vendor/` the libraries of the documentation pages, each with its licence."""
