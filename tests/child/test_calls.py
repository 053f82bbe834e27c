"""System calls that keep the GIL do what those of `os` do."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.child import calls


@pytest.fixture(params=["ctypes", "os"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `ctypes`, and on an interpreter that has none."""
    if request.param == "os":
        monkeypatch.setattr(calls, "PyDLL", None)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.mark.usefixtures("_way")
def test_the_beginning_of_a_file(tmp_path: Path) -> None:
    """As much is read as is asked for, or as there is; nothing stays open."""
    path = tmp_path / "file"
    path.write_bytes(b"\0ab\n" * 3)
    before = _open_descriptors()
    assert b"\0ab\n\0" == calls.read_file(os.fsencode(path), 5)
    assert b"\0ab\n" * 3 == calls.read_file(os.fsencode(path), 100)
    assert before == _open_descriptors()


@pytest.mark.usefixtures("_way")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """One that is missing, and a folder, are None."""
    assert calls.read_file(os.fsencode(tmp_path / "nothing"), 5) is None
    assert calls.read_file(os.fsencode(tmp_path), 5) is None


def test_a_socket_takes_what_it_can(pair: tuple[socket.socket, socket.socket]) -> None:
    """All of a little, a part of much, nothing when it is full; it never waits, though the socket would block."""
    one, other = pair
    assert 3 == calls.send(one.fileno(), b"a\0b")
    assert b"a\0b" == other.recv(10)
    sent = calls.send(one.fileno(), bytes(50_000_000))
    assert 0 < sent < 50_000_000
    while calls.send(one.fileno(), bytes(100)):
        pass
    assert 0 == calls.send(one.fileno(), b"more")


def test_a_broken_socket_takes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    """One whose other end is closed raises no signal; who then uses `os.write` hears why."""
    one, other = pair
    other.close()
    assert 0 == calls.send(one.fileno(), b"x")
    assert 0 == calls.send(-1, b"x")


def test_nobody_else_runs_meanwhile() -> None:
    """Beside a computing thread the calls do not give the GIL up, as one of `os` does."""
    count, stop = 0, False
    ready = threading.Event()

    def compute() -> None:
        nonlocal count
        ready.set()
        while not stop:
            count += 1

    thread = threading.Thread(target=compute)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(0.5)  # so long may this thread run before it is asked to give up the GIL
    try:
        thread.start()
        ready.wait()
        seen = count
        for _ in range(100):
            assert calls.read_file(b"/proc/thread-self/schedstat", 100)
        kept = count
        while count == kept:  # the other thread may need more than one chance
            Path("/proc/thread-self/schedstat").read_bytes()
    finally:
        stop = True
        sys.setswitchinterval(interval_s)
        thread.join()
    assert seen == kept


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
