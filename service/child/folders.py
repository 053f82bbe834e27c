"""Removes a folder with all that is in it: however deep, however much, whatever its modes.

Who uses it: `server`, for what a job has left in its folder; `executors.forkserver`, for what a fork server has left in
its own. A scenario can make a folder in a folder thousands of times, until no path is short enough to name it. So
nothing here recurses or walks along a path: what is in a folder below the top is removed, but folders are moved up.

    top/a/b/c  ──▶  top/up-0/c  ──▶  top/up-1  ──▶  top

Four descriptors are open at most. No link is followed, and nothing is raised.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from typing import Any, Callable, Generator, Iterator, Optional

__all__ = ["remove"]


def remove(folder: str, within_s: float = math.inf) -> bool:
    """Remove a folder, as far as the system allows it.

    Args:
        folder: its path. If it is a link, that is removed, and what it leads to is left alone.
        within_s: seconds; when they are over nothing more is begun, and the rest is left for another call.

    Returns:
        Whether nothing is there any more.
    """
    deadline = time.monotonic() + within_s
    if os.path.isdir(folder) and not os.path.islink(folder):
        for _ in _steps(folder):
            if time.monotonic() >= deadline:
                break
        _works(os.rmdir, folder)
    else:
        _works(os.unlink, folder)
    return not os.path.lexists(folder)


def _steps(folder: str) -> Iterator[None]:
    """Empty a folder, one thing at each step, until it is empty or nothing in it can be removed."""
    top = _opened(folder)
    if top is None:
        return
    names = map("up-{}".format, itertools.count())
    again = True
    try:
        while again:  # what is removed or moved under a reader's eyes can make it pass over others
            again = False
            for entry in _entries(top):
                if _is_folder(entry):
                    changed = yield from _empty(entry.name, top, names)
                    again |= _works(os.rmdir, entry.name, dir_fd=top) or changed
                else:
                    again |= _works(os.unlink, entry.name, dir_fd=top)
                yield
    finally:
        os.close(top)


def _empty(name: str, top: int, names: Iterator[str]) -> Generator[None, None, bool]:
    """Remove what is in a folder below the top, and move up what are folders; return whether any of that was done."""
    inner = _opened(name, top)
    if inner is None:
        return False
    changed = False
    try:
        for entry in _entries(inner):
            if _is_folder(entry):
                changed |= _move_up(entry.name, inner, top, names)
            else:
                changed |= _works(os.unlink, entry.name, dir_fd=inner)
            yield
    finally:
        os.close(inner)
    return changed


def _move_up(name: str, inner: int, top: int, names: Iterator[str]) -> bool:
    """Move a folder to the top, under the next name that nothing but an empty folder has there."""
    _works(os.chmod, name, 0o700, dir_fd=inner)  # who may not write to it may not move it, either
    for new_name in names:
        if _works(os.rename, name, new_name, src_dir_fd=inner, dst_dir_fd=top):
            return True
        if not _works(os.lstat, new_name, dir_fd=top):  # it was not the name
            return False
    return False


def _opened(folder: str, above: Optional[int] = None) -> Optional[int]:
    """Return a descriptor of a folder, by its path or by its name in another, with the right to change it.

    That nobody may enter it has no meaning: whoever made it was the same user.
    """
    _works(os.chmod, folder, 0o700, dir_fd=above)
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except OSError:
        return None


def _entries(folder: int) -> Iterator[Any]:
    """The entries of a folder, as far as they can be read."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        pass


def _is_folder(entry: Any) -> bool:
    try:
        return bool(entry.is_dir(follow_symlinks=False))
    except OSError:
        return False


def _works(call: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether a call of the system does what it should."""
    try:
        call(*args, **kwargs)
    except OSError:
        return False
    return True
