"""The twin of an executor for tests: plays back given frames and starts nothing.

Who uses it: tests of everything above the executors. It makes its reports with the same transcript as the real ones, so
a script that no child could have spoken fails here, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from service.child.wire import PROTOCOL, Frame
from service.errors import InterpreterNotFound
from service.executors.base import Cancel, GilSwitch, Interpreter, JobExecutor, Order, Sink, Wall
from service.executors.transcript import Ending, Transcript
from service.jobs import JobState, ProcessEnd, Report

__all__ = ["ScriptedExecutor", "success"]

_PYTHON: dict[str, Any] = {
    "version": "3.11.0",
    "implementation": "cpython",
    "gil": True,
    "free_threaded": False,
    "executable": "/scripted/python",
    "switch_interval_s": 0.005,
}
_MACHINE: dict[str, Any] = {"cpus": 2, "usable_cpus": 2, "platform": "scripted"}
_INTERPRETER = Interpreter(
    selector="3.11",
    executable=_PYTHON["executable"],
    default=True,
    usable=True,
    reason=None,
    machine=_MACHINE,
    version=_PYTHON["version"],
    implementation="cpython",
    free_threaded=False,
    gil=True,
    gil_switchable=False,
    switch_interval_s=_PYTHON["switch_interval_s"],
    subinterpreters=False,
    build_id="3.11.0 (scripted)",
)


def success(outcome: str = "done", **values: Any) -> list[Frame]:
    """Return the frames of a child that ran a scenario without threads to its end."""
    return [
        {"type": "ready", "protocol": PROTOCOL},
        {"type": "started", "active_threads": 1},
        {
            "type": "result",
            "outcome": outcome,
            "grade": "acceptable",
            "meaning": "It was played back.",
            "values": values,
            "wall_ns": 1_000_000,
            "cpu_ns": 1_000_000,
            "active_threads": 1,
            "switch_interval_s": 0.005,
        },
        {"type": "bye", "warnings": [], "dropped": 0, "events_dropped": 0, "trace_cost_ns": None},
    ]


class ScriptedExecutor(JobExecutor):
    """Answers every order with what `script` says.

    Args:
        script: the frames for an order; what it raises is raised by `run`.
        held: while set to an event that is not set, jobs stay running until it is, or until they are cancelled.
    """

    def __init__(
        self, script: Callable[[Order], Sequence[Frame]] = lambda _: success(), held: threading.Event | None = None
    ) -> None:
        self._script = script
        self._held = held
        self.orders: list[Order] = []

    def start(self) -> None:
        """Nothing has to be started."""

    def interpreters(self) -> list[Interpreter]:
        """Return an interpreter that does not exist."""
        return [_INTERPRETER]

    def choose(self, python: str | None, gil: GilSwitch | None) -> Interpreter:  # noqa: ARG002  it has no choice to offer
        """Return the only one there is."""
        if python not in (None, _INTERPRETER.selector):
            known = (_INTERPRETER.selector,)
            raise InterpreterNotFound("python", python or "", known, f"{python} is not installed.")
        return _INTERPRETER

    def walls(self) -> list[Wall]:
        """Return what keeps in scenarios that are not run."""
        return [Wall("files", "nothing is run", None)]

    def run(self, order: Order, sink: Sink, cancel: Cancel) -> Report:
        """Play back the script."""
        self.orders.append(order)
        self.choose(order.python, order.gil)
        stopped = self._hold(cancel)
        transcript = Transcript(order.kept, order.trace)
        for frame in self._script(order)[: 2 if stopped else None]:
            transcript.add(frame)
            sink(transcript.news())
        ending = Ending(
            process=ProcessEnd(pid=None, exit_code=0, signal=None, lived_s=0.001, cpu_s=None, max_rss_bytes=None),
            startup_s=0.001,
            stopped=stopped,
        )
        return transcript.report(ending, _PYTHON, _MACHINE)

    def _hold(self, cancel: Cancel) -> JobState | None:
        if self._held is None:
            return None
        woken = threading.Event()
        with cancel.waking(woken.set):
            while not self._held.wait(0.005):
                if woken.is_set():
                    return JobState.CANCELLED
        return None

    def close(self) -> None:
        """Let go of every job that is held."""
        if self._held is not None:
            self._held.set()
