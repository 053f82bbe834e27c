"""The built-in scenarios: one file is one scenario, readable on its own, importing nothing of ours.

Anatomy, top to bottom: a docstring (title; why it happens; `Run it:`; `Observed:`; `Source:`), `Params`, `LANE` or
`lane(params)`, `outcomes(params)`, `run(params, lab)`, small helpers. `service.catalog` checks it.
"""
