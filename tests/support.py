"""Helpers that more than one test module needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["CI", "interpreters", "need", "wait_until"]

CI = bool(os.environ.get("CI"))

_OLDEST = (3, 9)


def wait_until(predicate: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return as soon as the predicate holds; fail when it does not within the timeout."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.005)


def need(tool: str) -> str:
    """Return the path of a program; without it, skip on a laptop and fail where CI is set."""
    path = shutil.which(tool)
    if path is None:
        (pytest.fail if CI else pytest.skip)(f"{tool} is not installed")
    assert path is not None
    return path


def interpreters() -> list[str]:
    """Return the executables of every CPython from 3.9 on that is found by name or under pyenv, this one first."""
    found: dict[tuple[int, ...], str] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [sys.executable, *(shutil.which(f"python3.{minor}") for minor in range(9, 16))]
    candidates += [str(path) for path in sorted(pyenv.glob("3.*/bin/python"))]
    for executable in filter(None, candidates):
        version = _version(executable)
        if version is not None and version[:2] >= _OLDEST:
            found.setdefault(version, executable)
    return list(found.values())


def _version(executable: str) -> tuple[int, ...] | None:
    code = "import sys; print(sys.implementation.name, *sys.version_info[:3])"
    try:
        answer = subprocess.run(
            [executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    name, *numbers = answer.stdout.split() or [""]
    return tuple(int(number) for number in numbers) if name == "cpython" else None
