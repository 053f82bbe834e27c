"""Finds the interpreters of this machine, asks each what it is, and chooses the one that a job asks for.

Who uses it: `executors.local`. Where interpreters may be is findpython's knowledge (PATH, pyenv, uv, asdf, rye); what
they are each tells by itself, in a process (`child/probe.py`). Nobody is asked before somebody wants to know.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from findpython.providers import ALL_PROVIDERS

from service import child as child_package
from service.child import cage
from service.errors import InterpreterNotFound
from service.executors.base import GilSwitch, Interpreter

__all__ = ["LOOK_AGAIN_S", "OLDEST", "Interpreters", "Launch"]

OLDEST = (3, 9)  # what floor 0 is written for: the last version on which the tutorial's race shows by itself

_PROBE = Path(child_package.__file__).with_name("probe.py")
_PROBE_TIMEOUT_S = 10.0  # an answer takes 20 ms; a busy machine may need a hundred times that
LOOK_AGAIN_S = 5.0  # an unknown selector makes us look for new interpreters, but no more often than that

_SELECTOR = re.compile(r"3(?:\.(?:x|(?P<minor>\d+)(?:\.(?P<micro>\d+))?))?(?P<free>t?)")


@dataclass(frozen=True, slots=True)
class Launch:
    """How an interpreter is started.

    Attributes:
        options: what stands before the program; `-I` makes CPython ignore PYTHON_GIL, so `-X gil=` is among them.
    """

    executable: str
    options: tuple[str, ...] = ()


class Interpreters:
    """All interpreters of this machine.

    Args:
        default: the executable for jobs that do not ask for one.
        given: more executables, wherever they are.
        search: whether to look for others than these.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(self, default: str = sys.executable, given: Sequence[str] = (), *, search: bool = True) -> None:
        self._default = default
        self._given = given
        self._search = search
        self._looking = threading.Lock()
        self._found: list[Interpreter] = []  # guarded by _looking
        self._looked: float | None = None  # time.monotonic(); guarded by _looking

    def all(self, *, newer_than_s: float | None = None) -> list[Interpreter]:
        """Return all that were found, usable or not: the default, then the newest first.

        Args:
            newer_than_s: look again if the last look was longer ago than that many seconds.
        """
        with self._looking:
            now = time.monotonic()
            if self._looked is None or (newer_than_s is not None and now - self._looked > newer_than_s):
                self._found = self._look()
                self._looked = time.monotonic()
            return self._found

    def launch(self, python: str | None, gil: GilSwitch | None) -> Launch:
        """Return how to start the interpreter that a job asks for.

        Raises:
            InterpreterNotFound: there is none.
        """
        if python is None and gil is None:
            return Launch(self._default)
        chosen = self.choose(python, gil)
        switch = ("-X", f"gil={int(gil == 'on')}") if gil is not None and chosen.gil_switchable else ()
        return Launch(chosen.executable, switch)

    def choose(self, python: str | None, gil: GilSwitch | None) -> Interpreter:
        """Return the interpreter that a job asks for: of those that fit the newest, and of two alike the first found.

        Args:
            python: a version such as `3.13` or `3.13.0`, with a `t` for a free-threaded build; `3.x` is the newest.

        Raises:
            InterpreterNotFound: there is none.
        """
        fitting = _fitting(python, self.all()) or _fitting(python, self.all(newer_than_s=LOOK_AGAIN_S))
        usable = [each for each in fitting if each.usable]
        if not usable:
            raise _not_found(python or "", fitting, self.all())
        chosen = usable[0]
        if gil == "off" and not chosen.free_threaded:
            raise _no_choice(chosen, self.all())
        return chosen

    def _look(self) -> list[Interpreter]:
        paths = dict.fromkeys([self._default, *self._given, *(self._candidates() if self._search else ())])
        with ThreadPoolExecutor(4, thread_name_prefix="probe") as pool:
            answers = list(zip(paths, pool.map(_probe, paths), strict=True))
        wanted = {self._default, *self._given}
        programs: dict[Hashable, tuple[str, dict[str, Any]]] = {}
        for path, answer in answers:
            if path in wanted or "executable" in answer:  # others that do not answer only look like a Python
                programs.setdefault(_file(answer.get("executable") or path), (path, answer))
        first, *rest = [_described(path, answer) for path, answer in programs.values()]
        rest.sort(key=_rank, reverse=True)
        return _selected([first, *rest])

    @staticmethod
    def _candidates() -> list[str]:
        providers = filter(None, (provider.create() for provider in ALL_PROVIDERS.values()))
        found = [python.executable for provider in providers for python in provider.find_pythons()]
        programs = dict.fromkeys(path.resolve() for path in found if not _is_script(path))
        return [str(path) for path in programs if path.name.startswith("python3") and _can_be_told(path)]


def _file(path: str) -> Hashable:
    """What two names of one program have in common: builds install `python3.13t` as a hard link of `python3.13`."""
    try:
        found = Path(path).stat()
    except OSError:
        return path
    return found.st_dev, found.st_ino


def _can_be_told(path: Path) -> bool:
    """Whether JSON has a word for it: a folder on PATH may have a name that is no text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_script(path: Path) -> bool:
    """Whether it is a wrapper such as pyenv's shims, which stand for an interpreter that is found by itself."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True


def _probe(executable: str) -> dict[str, Any]:
    command = [executable, "-I", "-S", str(_PROBE)]
    try:
        done = subprocess.run(  # noqa: S603  a path that was found or given by the operator, never by a client
            command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL, check=True
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.strip()[-200:] or "it said nothing"
        return {"failure": f"It ended with exit code {exc.returncode}: {said}"}
    except (OSError, subprocess.TimeoutExpired, ValueError) as exc:
        return {"failure": f"It could not be asked what it is: {exc}"}
    return answer


def _described(path: str, answer: dict[str, Any]) -> Interpreter:
    """What was found, not yet with the selector that is its alone."""
    facts = {"selector": path, "executable": path, "default": False, "machine": cage.about()["machine"]}
    if "failure" in answer:
        return Interpreter(**facts, usable=False, reason=answer["failure"])
    reason = None
    if answer["implementation"] != "cpython":
        reason = f"It is {answer['implementation']}; jobs run on CPython."
    elif _numbers(answer["version"])[1:3] < OLDEST:
        reason = f"It is too old: the child needs CPython {'.'.join(map(str, OLDEST))} or newer."
    facts = {**answer, **facts, "gil_switchable": answer["free_threaded"]}
    return Interpreter(**facts, usable=reason is None, reason=reason)


def _numbers(version: str) -> tuple[int, ...]:
    """A version for sorting: whether it is released, then its numbers."""
    numbers = [int(digits) for digits in re.findall(r"\d+", version)[:3]]
    return (int(not re.search(r"[a-z]", version)), *numbers)


def _rank(found: Interpreter) -> tuple[Any, ...]:
    """The higher the better: usable, released, newer, with the GIL, optimized."""
    optimized = found.build is not None and found.build["optimized"]
    return found.usable, *(_numbers(found.version or "") or (0,)), not found.free_threaded, optimized


def _selected(found: Sequence[Interpreter]) -> list[Interpreter]:
    """Give each the shortest selector that is its alone: minor version, full version, or path; the first ones first."""
    made: list[Interpreter] = []
    taken: set[str] = set()
    for number, each in enumerate(found):
        names = [each.executable]
        if each.usable and each.version is not None:
            short = each.version.rpartition(".")[0] + ("t" if each.free_threaded else "")
            names = [short, _full_version(each), *names]
        selector = next(name for name in names if name not in taken)
        taken.add(selector)
        made.append(replace(each, selector=selector, default=number == 0))
    return made


def _full_version(interpreter: Interpreter) -> str:
    return f"{interpreter.version}{'t' if interpreter.free_threaded else ''}"


def _fitting(python: str | None, found: Sequence[Interpreter]) -> list[Interpreter]:
    """Those that a selector may mean, the best first; a name that is somebody's own means that one alone."""
    if python is None:
        return [each for each in found if each.default]
    by_name = [each for each in found if python in (each.selector, each.executable, _full_version(each))]
    asked = _SELECTOR.fullmatch(python)
    if by_name or asked is None:
        return by_name
    return sorted((each for each in found if _fits(each, asked)), key=_rank, reverse=True)


def _fits(interpreter: Interpreter, asked: re.Match[str]) -> bool:
    if interpreter.version is None or interpreter.free_threaded != bool(asked["free"]):
        return False
    numbers = tuple(map(str, _numbers(interpreter.version)[1:]))
    return asked["minor"] in (None, numbers[1]) and asked["micro"] in (None, numbers[2])


def _known(found: Sequence[Interpreter]) -> tuple[str, ...]:
    return tuple(each.selector for each in found if each.usable)


def _not_found(python: str, unusable: Sequence[Interpreter], found: Sequence[Interpreter]) -> InterpreterNotFound:
    known = _known(found)
    if unusable:
        why = f"{unusable[0].executable} cannot be used: {unusable[0].reason}"
    elif _SELECTOR.fullmatch(python):
        why = f"{python} is not installed."
    else:
        why = f"{python!r} is no selector: it looks like 3.13, 3.13.0, 3.13t (free-threaded) or 3.x (the newest)."
    return InterpreterNotFound("python", python, known, why)


def _no_choice(chosen: Interpreter, found: Sequence[Interpreter]) -> InterpreterNotFound:
    free = [each.selector for each in found if each.usable and each.free_threaded]
    there_is = f"such as {free[0]}" if free else "and none is installed"
    why = f"{chosen.selector} was built with the GIL on for good; `gil` off needs a free-threaded build, {there_is}."
    return InterpreterNotFound("gil", "off", ("on",), why)
