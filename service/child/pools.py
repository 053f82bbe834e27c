"""Rows for the threads of pools: a ThreadPoolExecutor makes its threads itself, and they are recorded all the same.

Who uses it: `loop`, which installs it where a scenario has imported `concurrent.futures`, and names the recorder of the
job. What is wrapped is the function that a pool's threads run (`concurrent.futures.thread._worker`, from 3.9 to 3.15 at
least): its start and end are the thread's own. An interpreter without it runs the same, without these rows.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any, Callable, List

from service.child.recorder import Recorder

__all__ = ["install", "record"]

_recorders: List[Recorder] = []  # the job's, in its child; none in the fork server


def record(recorder: Recorder) -> None:
    """Let pools leave their stamps with this recorder, if it is there for threads."""
    _recorders[:] = [recorder] if recorder.trace != "off" else []


def install() -> None:
    """Wrap what pool threads run, if a scenario has imported it and it is not wrapped yet."""
    module = sys.modules.get("concurrent.futures.thread")
    worker = getattr(module, "_worker", None)
    if worker is not None and not hasattr(worker, "__wrapped__"):
        module._worker = _recorded(worker)  # type: ignore[union-attr]  # a name of CPython's own


def _recorded(worker: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(worker)
    def work(*args: Any, **kwargs: Any) -> None:
        if not _recorders:
            worker(*args, **kwargs)
            return
        log = _recorders[0].open(threading.current_thread())
        try:
            worker(*args, **kwargs)
        finally:
            _recorders[0].close(log)

    return work
