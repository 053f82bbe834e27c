"""One service, one database: the second is refused and told who the first is, whatever path led it there."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import DatabaseInUse, StoreUnavailable
from service.stores.sql import SqlStore

_ROOT = Path(__file__).parents[2]

_HOLDER = """
import sys, time
from service.stores import make_store

store = make_store(sys.argv[1])
store.open()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or will be."""
    return tmp_path / "jobs.db"


def _opened(path: Path | str) -> SqlStore:
    store = SqlStore(f"sqlite:///{path}")
    store.open()
    return store


def test_the_second_is_told_who_holds_it(path: Path) -> None:
    """While a store is open another one is refused, and its text has the first one's process, host and time."""
    with closing(_opened(path)), pytest.raises(DatabaseInUse) as refused:
        _opened(path)
    who = rf"process {os.getpid()} on {socket.gethostname()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\."
    assert refused.match(who)
    assert refused.match("Stop that one first, or name another file in THREADLAB_DATABASE_URL")


def test_a_refused_store_leaves_the_first_alone(path: Path) -> None:
    """Whoever was refused has not let go of what another one holds."""
    with closing(_opened(path)):
        for _ in range(3):
            with pytest.raises(DatabaseInUse):
                _opened(path)
    _opened(path).close()


def test_another_path_is_the_same_database(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, a detour and a symbolic link lead to the same lock."""
    (path.parent / "folder").mkdir()
    link = path.parent / "folder" / "link.db"
    link.symlink_to(path)
    monkeypatch.chdir(path.parent)
    for first, second in ((path, link), (link, path), (path, "jobs.db"), (path, f"{path.parent}/folder/../jobs.db")):
        with closing(_opened(first)), pytest.raises(DatabaseInUse):
            _opened(second)
    assert {path, link.parent} == set(path.parent.iterdir())


def test_a_kill_lets_go_of_it(path: Path) -> None:
    """The lock of a killed service is free, although its file is still there."""
    command = [sys.executable, "-c", _HOLDER, f"sqlite:///{path}"]
    holder = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    with holder:
        assert holder.stdout is not None
        assert b"open\n" == holder.stdout.readline()
        with pytest.raises(DatabaseInUse, match=f"process {holder.pid} on "):
            _opened(path)
        holder.kill()
    assert path.with_name("jobs.db.lock").exists()
    _opened(path).close()
    assert [path] == list(path.parent.iterdir())


def test_one_of_many_gets_it(path: Path) -> None:
    """Of those that begin at the same time exactly one has the database, again and again."""
    for _ in range(10):
        together, opened, refused = threading.Barrier(4), [], []

        def begin(together: threading.Barrier = together, opened: list[SqlStore] = opened) -> None:
            together.wait()
            try:
                opened.append(_opened(path))
            except DatabaseInUse as exc:
                refused.append(exc)  # noqa: B023  the threads end within the round

        threads = [threading.Thread(target=begin) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (1, 3) == (len(opened), len(refused))
        opened[0].close()


def test_a_store_that_cannot_be_opened_holds_nothing(path: Path) -> None:
    """A start that failed can be tried again in the same process."""
    path.write_text("Dear diary, " * 1000)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="not a database"):
            _opened(path)
    assert [path] == list(path.parent.iterdir())


def test_a_file_system_without_locks_is_told_and_used(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where files cannot be locked a line of the log says so, and the service goes on."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), closing(_opened(path)), closing(_opened(path)):
        pass
    assert ["nothing keeps a second service from this database"] * 2 == [each.message for each in caplog.records]
    assert {"No locks available"} == {vars(each)["reason"] for each in caplog.records}


def test_a_program_that_is_started_does_not_inherit_it(path: Path) -> None:
    """The lock's descriptor is closed in a program that is started while it is held."""
    store = _opened(path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with child:
        store.close()
        _opened(path).close()
        child.communicate(b"\n")
    assert 0 == child.returncode


@pytest.mark.parametrize("way", ["hard link", "lock removed"])
def test_no_other_way_leads_to_it(path: Path, way: str) -> None:
    """A hard link has no lock beside it, and one that somebody removed is none: the database is locked itself."""
    command = [sys.executable, "-c", _HOLDER, f"sqlite:///{path}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT) as holder:
        assert holder.stdout is not None
        assert b"open\n" == holder.stdout.readline()
        if way == "hard link":
            (path.parent / "elsewhere").mkdir()
            other = path.parent / "elsewhere" / "other.db"
            os.link(path, other)
        else:
            other = path
            path.with_name("jobs.db.lock").unlink()
        with pytest.raises(DatabaseInUse, match="one that came to it by another way"):
            _opened(other)
        holder.communicate(b"")
    _opened(other).close()
