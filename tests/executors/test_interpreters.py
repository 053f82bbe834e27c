"""Finding, probing and choosing interpreters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from service.errors import InterpreterNotFound
from service.executors import interpreters as module
from service.executors.base import Cancel, Interpreter
from service.executors.interpreters import OLDEST, Interpreters, Launch
from service.executors.local import LocalExecutor
from service.jobs import JobState
from tests.executors.helpers import LIMITS, make_order, result_of, write_scenario
from tests.support import SILENT, interpreters

_ANSWER = {
    "implementation": "cpython",
    "version": "3.12.4",
    "build_id": "3.12.4 (made up)",
    "free_threaded": False,
    "gil": True,
    "switch_interval_s": 0.005,
    "subinterpreters": False,
    "build": {"compiler": "none", "debug": False, "optimized": False, "lto": False, "jit": False},
}

Make = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A program that answers like an interpreter of some version; keywords change the answer."""

    def make(name: str, **answer: Any) -> str:
        path = tmp_path / name
        text = json.dumps({**_ANSWER, "executable": str(path), **answer})
        path.write_text(f"#!/bin/sh\nprintf '%s' '{text}'\n")
        path.chmod(0o755)
        return str(path)

    return make


def choices(*paths: str) -> Interpreters:
    """These, the first of them the default, and nothing that else is on this machine."""
    return Interpreters(paths[0], paths[1:], search=False)


def selectors(found: list[Interpreter]) -> dict[str, str]:
    """Selector by the name of the program."""
    return {Path(each.executable).name: each.selector for each in found}


def test_every_cpython_of_this_machine_is_found() -> None:
    """Each interpreter that is found tells what it is in truth, and the default is this one."""
    found = interpreters()
    assert sys.executable == found[0].executable
    for each in found:
        code = "import json, sys; print(json.dumps([sys.version, sys.version.split()[0], sys.getswitchinterval()]))"
        said = subprocess.run([each.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
        assert [each.build_id, each.version, each.switch_interval_s] == json.loads(said)
        assert "cpython" == each.implementation
        assert tuple(map(int, (each.version or "").split(".")[:2])) >= OLDEST
        assert each.gil_switchable == each.free_threaded


def test_a_folder_whose_name_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that JSON cannot name is not listed; the others are."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    shutil.copy(sys.executable, folder / "python3")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    found = Interpreters().all()
    assert found
    assert all(each.executable.encode() for each in found)


def test_each_is_listed_once() -> None:
    """Links and wrapper scripts are no interpreters of their own, and no two have the same selector."""
    found = Interpreters().all()
    files = [(Path(each.executable).stat().st_dev, Path(each.executable).stat().st_ino) for each in found]
    assert len(files) == len(set(files))
    assert len(found) == len({each.selector for each in found})


def test_the_order(make: Make) -> None:
    """The default comes first, then the newest, one with the GIL before its free-threaded twin, unusable ones last."""
    found = choices(
        make("default", version="3.10.1"),
        make("newest", version="3.14.0"),
        make("preview", version="3.15.0a2"),
        make("free", version="3.13.1", free_threaded=True, gil=False),
        make("plain", version="3.13.1"),
        make("old", version="3.8.1"),
    ).all()
    assert ["default", "newest", "plain", "free", "preview", "old"] == [Path(each.executable).name for each in found]


def test_selectors(make: Make) -> None:
    """The shortest selector belongs to the default, then to the newest; two alike are told apart by their paths."""
    paths = [
        make("own", version="3.12.1"),
        make("newer", version="3.12.9"),
        make("twin", version="3.12.9"),
        make("free", version="3.12.9", free_threaded=True),
    ]
    found = selectors(choices(*paths).all())
    assert {"own": "3.12", "newer": "3.12.9", "twin": paths[2], "free": "3.12t"} == found


@pytest.mark.parametrize(
    ("python", "name"),
    [
        (None, "own"),
        ("3.12", "own"),
        ("3.12.1", "own"),
        ("3.12.9", "newer"),
        ("3.13", "latest"),
        ("3", "latest"),
        ("3.x", "latest"),
        ("3.xt", "free"),
        ("3t", "free"),
        ("3.13t", "free"),
        ("3.13.2t", "free"),
        ("3.15", "preview"),
        ("3.15.0a2", "preview"),
        ("3.15.0a3", None),
    ],
)
def test_choosing(make: Make, python: str | None, name: str | None) -> None:
    """A selector means the newest that fits and is released; an exact one means that one."""
    paths = [
        make("own", version="3.12.1"),
        make("newer", version="3.12.9"),
        make("latest", version="3.13.2"),
        make("free", version="3.13.2", free_threaded=True, gil=False),
        make("preview", version="3.15.0a2"),
    ]
    if name is None:
        with pytest.raises(InterpreterNotFound, match="no selector"):
            choices(*paths).choose(python, None)
    else:
        assert name == Path(choices(*paths).choose(python, None).executable).name


def test_a_path_is_a_selector_if_it_was_found(make: Make, tmp_path: Path) -> None:
    """A job may name an interpreter by its path, but only one that was found."""
    own, other = make("own"), make("other", version="3.13.0")
    assert other == choices(own, other).choose(other, None).executable
    for path in (str(tmp_path / "nowhere"), "/bin/sh", other + " "):
        with pytest.raises(InterpreterNotFound, match="no selector"):
            choices(own, other).choose(path, None)


def test_what_there_is_is_told(make: Make) -> None:
    """A selector that nothing fits is answered with those that something does."""
    with pytest.raises(InterpreterNotFound) as caught:
        choices(make("own"), make("free", version="3.13.0", free_threaded=True)).choose("3.14t", None)
    assert "3.14t is not installed. Here `python` can be 3.12, 3.13t." == str(caught.value)
    assert ("python", "3.14t", ("3.12", "3.13t")) == (caught.value.option, caught.value.asked, caught.value.known)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [({"version": "3.8.18"}, "too old"), ({"implementation": "pypy"}, "pypy; jobs run on CPython")],
)
def test_unusable(make: Make, answer: dict[str, Any], reason: str) -> None:
    """What is no CPython from 3.9 on is listed with the reason, and a job that asks for it hears that reason."""
    found = choices(make("own"), make("other", **answer))
    other = found.all()[1]
    assert not other.usable
    assert reason in (other.reason or "")
    with pytest.raises(InterpreterNotFound, match=reason):
        found.choose(other.selector, None)


@pytest.mark.parametrize("script", ["exit 3", "echo no json", "echo >&2 broken; exit 1", "kill -9 $$"])
def test_one_that_was_given_and_does_not_answer(make: Make, tmp_path: Path, script: str) -> None:
    """An interpreter that the operator named is listed with what it did instead of answering."""
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    for path in (str(broken), str(tmp_path / "nowhere")):
        listed = choices(make("own"), path).all()[1]
        assert (path, False, None) == (listed.executable, listed.usable, listed.version)
        assert listed.reason


def test_one_that_hangs(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that never answers is given up."""
    monkeypatch.setattr(module, "_PROBE_TIMEOUT_S", 0.2)
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    assert "timed out" in (choices(make("own"), str(hangs)).all()[1].reason or "")


def test_gil(make: Make) -> None:
    """`gil` is an option of CPython's on a free-threaded build; on any other, on is what it is, and off is refused."""
    found = choices(make("own"), make("free", version="3.13.0", free_threaded=True, gil=False))
    free = found.choose("3.13t", None).executable
    assert [(), ("-X", "gil=0"), ("-X", "gil=1")] == [found.launch("3.13t", gil).options for gil in (None, "off", "on")]
    assert Launch(found.choose(None, None).executable) == found.launch(None, "on")
    assert Launch(free, ("-X", "gil=1")) == found.launch("3.13t", "on")
    with pytest.raises(InterpreterNotFound, match=r"such as 3\.13t") as caught:
        found.launch(None, "off")
    assert ("gil", "off", ("on",)) == (caught.value.option, caught.value.asked, caught.value.known)


def test_nobody_is_asked_for_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that asks for nothing starts the default without a look at the machine."""
    monkeypatch.setattr(module, "_probe", pytest.fail)
    assert Launch("/any/python") == Interpreters("/any/python").launch(None, None)


def test_a_new_one_is_found_when_it_is_asked_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selector that is unknown makes us look again: what was installed meanwhile can be used at once."""
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
    own, late = make("own"), make("late", version="3.8.1")
    found = choices(own, late)
    with pytest.raises(InterpreterNotFound):
        found.choose("3.13", None)
    make("late", version="3.13.0")
    assert late == found.choose("3.13", None).executable


@pytest.mark.interpreters
def test_a_job_runs_where_it_asks_to() -> None:
    """On each selector the child is that interpreter, its GIL as asked for, each with a fork server of its own."""
    source = write_scenario(
        """
        gil = sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True
        return {"outcome": "done", "build_id": sys.version, "gil": gil, "server": os.path.dirname(os.getcwd())}
        """
    )
    executor = LocalExecutor(LIMITS)
    asked: list[tuple[str, Any, bool | None]] = []
    for each in interpreters():
        asked.append((each.selector, None, each.gil))
        asked.append((each.selector, "on", True))
        asked += [(each.selector, "off", False)] if each.gil_switchable else []
    servers = set()
    try:
        for python, gil, expected in asked:
            report = executor.run(make_order(source, python=python, gil=gil), SILENT, Cancel())
            assert JobState.SUCCEEDED == report.status, report.error
            values = result_of(report)["values"]
            assert executor.choose(python, gil).build_id == values["build_id"]
            assert (expected, expected) == (values["gil"], (report.python or {})["gil"])
            servers.add(values["server"])
    finally:
        executor.close()
    ways = {executor._interpreters.launch(python, gil) for python, gil, _ in asked}
    assert len(ways) == len(servers)


def test_it_can_be_answered() -> None:
    """What is found can be written as JSON."""
    assert json.loads(json.dumps([asdict(each) for each in interpreters()]))
