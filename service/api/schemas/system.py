"""The interpreters, the limits, and the health of the service."""

from typing import Literal

from service.api.schemas.base import Answer
from service.api.schemas.results import MachineView
from service.jobs import Lane

__all__ = ["Capacity", "Health", "InterpreterList"]


class BuildView(Answer):
    """How an interpreter was built."""

    compiler: str
    debug: bool
    optimized: bool
    """With profile-guided optimization."""
    lto: bool
    """With link-time optimization."""
    jit: bool
    """With the just-in-time compiler, and that is available."""


class InterpreterView(Answer):
    """An interpreter that was found, and what it says of itself; null where it did not say."""

    selector: str
    """The shortest value of a job's `python` that means this one."""
    executable: str
    default: bool
    """Whether jobs run on it that do not ask for one."""
    usable: bool
    """Whether jobs can run on it."""
    reason: str | None
    """Why not."""
    version: str | None
    implementation: str | None
    free_threaded: bool | None
    """Whether it was built to run without the global interpreter lock (PEP 703)."""
    gil: bool | None
    """Whether that lock is on when a job does not say."""
    gil_switchable: bool | None
    """Whether a job's `gil` can switch it."""
    switch_interval_s: float | None
    """`sys.getswitchinterval()` of a fresh process."""
    subinterpreters: bool | None
    """Whether a program can make interpreters with a lock each (PEP 734; on 3.13 by a private module)."""
    build: BuildView | None
    build_id: str | None
    """`sys.version`: what was measured on one build is not taken for another."""
    machine: MachineView | None


class InterpreterList(Answer):
    """What was found, the default first, then the usable ones, the newest first."""

    interpreters: list[InterpreterView]


class LaneView(Answer):
    """How full a lane is."""

    queued: int
    running: int
    slots: int


class WallView(Answer):
    """Something that keeps scenarios from whatever is not theirs."""

    name: str
    by: str
    """What enforces it, and how far."""
    missing: str | None
    """Why it does not stand on this system; null where it does."""


class Capacity(Answer):
    """How full the service is, and the limits in force."""

    lanes: dict[Lane, LaneView]
    limits: dict[str, float]
    """By the names of the settings that set them."""
    walls: list[WallView]
    """What keeps scenarios in, on the default interpreter: what is enforced here by what, and what is not."""


class Health(Answer):
    """A probe's answer."""

    status: Literal["ok", "ready"]
