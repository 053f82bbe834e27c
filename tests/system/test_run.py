"""`threadlab run` on a terminal, for a program, and on a server."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from service import terminal as terminals
from service.api.schemas import job_view
from tests.stores.helpers import ended_job
from tests.support import wait_until
from tests.system.server import Server, plain_environment

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A real server."""
    with Server(tmp_path) as server:
        yield server.start()


def started(folder: Path, *arguments: str, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """The command, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "service", "run", *arguments],
        cwd=folder,
        env=plain_environment(folder, TERM="xterm", **({} if out != subprocess.PIPE else {"COLUMNS": "160"})),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """The command's exit code, output and errors."""
    process = started(folder, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


class Terminal:
    """A pseudo-terminal of 100 by 30, and what was written to it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        termios.tcsetwinsize(self._ours, (30, 100))
        os.set_blocking(self._ours, False)
        self._seen = b""

    @property
    def seen(self) -> str:
        """All that was written so far, without escape sequences."""
        with contextlib.suppress(BlockingIOError, OSError):
            while piece := os.read(self._ours, 65_536):
                self._seen += piece
        return _ESCAPES.sub("", self._seen.decode("utf-8", "replace"))

    def close(self) -> None:
        """Give both ends back."""
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A pseudo-terminal."""
    terminal = Terminal()
    yield terminal
    terminal.close()


def on_terminal(folder: Path, terminal: Terminal, arguments: Sequence[str], *awaited: str) -> str:
    """Run the command on a terminal until it ends, and return what was seen; all of `awaited` before its end."""
    process = started(folder, *arguments, out=terminal.theirs)
    try:
        wait_until(lambda: all(text in terminal.seen for text in awaited), 30.0)
        assert process.poll() is None, "it ended before it showed anything"
        wait_until(lambda: bool(terminal.seen) and process.poll() is not None, 30.0)
    finally:
        process.kill()
        _, err = process.communicate()
    assert 0 == process.returncode, err
    return terminal.seen


class TestHere:
    def test_lanes_grow_on_a_terminal(self, tmp_path: Path, terminal: Terminal) -> None:
        """While it runs there is a track for each thread and what it prints; at its end the table."""
        seen = on_terminal(tmp_path, terminal, ["interleaving", "--delay-s", "0.3"], "Thread-1", "─────", "holds one")
        assert "interleaving: interleaved" in seen
        assert "│ status" in seen

    def test_how_far_it_is(self, tmp_path: Path, terminal: Terminal) -> None:
        """A scenario that runs in steps has a bar, above the main thread and the latest of very many threads."""
        arguments = ["oversubscription", "--threads", "8", "--rounds", "12", "--total", "3000"]
        lines = ("━", "of 24", "MainThread  ", "earlier threads", "Thread-30 ")
        seen = on_terminal(tmp_path, terminal, arguments, *lines)
        assert re.search(r"━ 1?\d of 24\r\n", seen)

    def test_nothing_moves_where_nobody_looks(self, tmp_path: Path) -> None:
        """Output that is no terminal gets the table alone, without control sequences."""
        code, out, err = ran(tmp_path, "named_workers", "--threads", "2", "--delay-s", "0.01")
        assert (0, "") == (code, err)
        assert "\x1b" not in out
        assert "holds one" not in out

    def test_printed_lines_stay_as_they_are(self, tmp_path: Path) -> None:
        """However long a line is, where it is no terminal's it is not cut in two: other programs read it."""
        program = json.dumps([{"target": "fail", "args": ["no " * 66]}])
        _, out, _ = ran(tmp_path, "custom", "--program", program)
        assert f"RuntimeError: {'no ' * 66}".rstrip() in out

    def test_threads_have_a_line_each(self, tmp_path: Path) -> None:
        """Under the table is one of the threads; with their waits for locks where those were traced."""
        arguments = ["check_then_act", "--threads", "2", "--construction-s", "0.01"]
        _, out, _ = ran(tmp_path, *arguments)
        assert "gil_wait_s" in out
        assert "lock_wait_s" not in out
        _, out, _ = ran(tmp_path, *arguments, "--trace", "locks")
        assert "lock_wait_s  lock_waits" in out
        assert 2 == len(re.findall(r"Thread-\d .* \d\.\d{4} ", out))

    def test_json(self, tmp_path: Path) -> None:
        """--json prints the answer that the service would give, and nothing else."""
        code, out, err = ran(tmp_path, "counter", "--threads", "3", "--iterations", "50", "--label", "mine", "--json")
        assert (0, "") == (code, err)
        job = json.loads(out)
        assert ("succeeded", "mine", 3) == (job["status"], job["label"], job["request"]["threads"])
        assert 3 == len(job["result"]["threads"])

    @pytest.mark.parametrize(("text", "value"), [("null", None), ("0.02", 0.02)])
    def test_what_can_be_null_can_be_given_as_null(self, tmp_path: Path, text: str, value: float | None) -> None:
        """The option's default is a number; `null` is not that, and reaches the job."""
        code, out, err = ran(tmp_path, "counter", "--iterations", "100", "--switch-interval-s", text, "--json")
        assert (0, "") == (code, err)
        assert value == json.loads(out)["request"]["switch_interval_s"]

    def test_json_of_a_job_that_fails(self, tmp_path: Path) -> None:
        """The exit code tells a job that did not succeed, the answer why."""
        code, out, _ = ran(tmp_path, "daemon", "--main-s", "30", "--timeout-s", "0.2", "--json")
        assert (1, "timed_out") == (code, json.loads(out)["status"])

    def test_ctrl_c_cancels(self, tmp_path: Path, terminal: Terminal) -> None:
        """Ctrl-C ends the job, what it has shown is printed, and the exit code is 130."""
        process = started(tmp_path, "daemon", "--main-s", "60", out=terminal.theirs)
        wait_until(lambda: "daemon: running" in terminal.seen, 30.0)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: bool(terminal.seen) and process.poll() is not None, 30.0)
        _, err = process.communicate()
        assert (130, "") == (process.returncode, err)
        assert "cancelled" in terminal.seen

    def test_what_is_printed_cannot_steer_the_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        """An escape sequence in a line or a thread's name is shown as text."""
        job = ended_job()
        assert job.result is not None
        job.result["output"][:] = [{"at_s": 0.1, "thread": "\x1b]0;title\x07", "line": "\x1b[31mred\r\x9b2J"}]
        terminals.show(job_view(job), as_json=False)
        shown = capsys.readouterr().out
        assert r"\x1b[31mred\r\x9b2J" in shown
        assert not {"\x1b", "\x07", "\r", "\x9b"} & set(shown)


class TestOnAServer:
    def test_it_runs_there(self, server: Server, tmp_path: Path) -> None:
        """--url runs the job on a server, which remembers it, and prints its answer."""
        code, out, err = ran(tmp_path, "counter", "--iterations", "50", "--url", server.url, "--json")
        assert (0, "") == (code, err)
        job = json.loads(out)
        assert job == server.job(job["id"])

    def test_lanes_grow_on_a_terminal(self, server: Server, tmp_path: Path, terminal: Terminal) -> None:
        """A job elsewhere is watched as one here is."""
        arguments = ["interleaving", "--delay-s", "0.3", "--url", server.url]
        seen = on_terminal(tmp_path, terminal, arguments, "interleaving: running", "Thread-1", "─────")
        assert "interleaving: interleaved" in seen

    def test_ctrl_c_cancels(self, server: Server, tmp_path: Path) -> None:
        """Ctrl-C cancels the job there, not only its picture."""
        process = started(tmp_path, "daemon", "--main-s", "60", "--url", server.url, "--json")
        wait_until(server.children)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (130, "") == (process.returncode, err)
        assert "cancelled" == server.job(json.loads(out)["id"])["status"]

    def test_a_mistake_is_explained(self, server: Server, tmp_path: Path) -> None:
        """What the server refuses is told with the place and what is allowed there."""
        code, out, err = ran(tmp_path, "counter", "--threads", "0", "--url", server.url)
        assert (1, "") == (code, out)
        assert "#/threads" in err
        assert "Allowed" in err

    def test_nobody_is_there(self, tmp_path: Path) -> None:
        """An address at which nothing listens is named."""
        code, out, err = ran(tmp_path, "counter", "--url", "http://127.0.0.1:9")
        assert (1, "") == (code, out)
        assert "http://127.0.0.1:9 does not answer" in err.replace("\n", " ")

    def test_an_address_that_is_none(self, tmp_path: Path) -> None:
        """An address without its protocol was never asked; what one looks like is said."""
        code, out, err = ran(tmp_path, "counter", "--url", "127.0.0.1:9")
        assert (1, "") == (code, out)
        assert "127.0.0.1:9 is no address of a service: write one like http://" in err.replace("\n", " ")

    def test_a_restart_in_the_middle(self, server: Server, tmp_path: Path) -> None:
        """A service that is killed and started again goes on with the job, and the watcher with it."""
        port = server.url.rpartition(":")[2]
        process = started(tmp_path, "daemon", "--main-s", "1.5", "--url", server.url, "--json")
        wait_until(lambda: server.counted("threadlab_watchers"))  # before, nobody has told it that the job is accepted
        server.kill()
        server.start("--port", port, "--database", server.database)
        out, err = process.communicate(timeout=60)
        assert (0, "") == (process.returncode, err)
        assert "succeeded" == json.loads(out)["status"]
