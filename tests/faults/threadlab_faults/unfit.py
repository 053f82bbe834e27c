"""Unfit: a parameter that no JSON can hold.

It keeps every rule that a look at the file can hold it to; what is wrong shows when a request is made of it.

Source: the first draft of many a scenario.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

LANE = "wait"


@dataclass(frozen=True)
class Params:
    thread: threading.Thread | None = field(default=None, metadata={"description": "Which thread it is about."})


def outcomes(params):
    return {"done": ("acceptable", "It was done.")}


def run(params, lab):
    return {"outcome": "done"}
