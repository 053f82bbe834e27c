"""Removes the folders of jobs that have ended; what takes long, in a process of its own.

Who uses it: `server`, on whose only thread nothing may take long: every other job waits for it. What a job has left is
removed there within some milliseconds, or put aside for the process: a child of the fork server that ends with it.
"""

from __future__ import annotations

import itertools
import os
from typing import Callable, List, Optional

from service.child import folders
from service.child.walls import die_with_parent

__all__ = ["Cleaner"]

_AT_ONCE_S = 0.005  # as long as some forks take; some hundred files
_LOWEST_PRIORITY = 19  # it has time, and jobs are measured


class Cleaner:
    """What removes folders below a base.

    Args:
        base: an absolute path.
        shed: is called in the new process, and leaves it nothing of what the fork server has open.

    Attributes:
        pid: the number of its process; None while there is none.
    """

    def __init__(self, base: str, shed: Callable[[], None]) -> None:
        self._base = base
        self._shed = shed
        self._aside: List[str] = []  # what waits for the next process
        self._numbers = itertools.count()
        self.pid: Optional[int] = None

    def remove(self, folder: str) -> None:
        """Remove a folder, or put it aside: its name is free in any case, for the job may be run again."""
        try:
            os.rmdir(folder)  # nearly always it is empty
        except OSError:
            if not folders.remove(folder, _AT_ONCE_S):
                self._put_aside(folder)
        self._go_on()

    def reaped(self, pid: int) -> None:
        """Hear of any process that has ended."""
        if pid == self.pid:
            self.pid = None
            self._go_on()

    def _put_aside(self, folder: str) -> None:
        aside = os.path.join(self._base, "aside-{}".format(next(self._numbers)))
        try:
            os.rename(folder, aside)
        except OSError:  # somebody else has removed it, or the base
            return
        self._aside.append(aside)

    def _go_on(self) -> None:
        """Start a process for what was put aside, one at a time."""
        if self.pid is not None or not self._aside:
            return
        try:
            pid = os.fork()
        except OSError:  # there may be room for one when the next folder is removed
            return
        if pid == 0:
            self._work()
        self.pid = pid
        self._aside = []

    def _work(self) -> None:
        """Never returns: the process ends here."""
        try:
            die_with_parent()
            self._shed()
            os.chdir(self._base)
            os.nice(_LOWEST_PRIORITY)
            for folder in self._aside:
                folders.remove(folder)
        finally:
            os._exit(0)
