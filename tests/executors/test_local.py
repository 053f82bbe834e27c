"""Children on this machine, whatever their scenarios do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.errors import ChildLate, ExecutorError, ForkFailed, ForkServerDied
from service.events import JobEvent
from service.executors.base import Cancel, Order
from service.executors.forkserver import Child, ForkServer
from service.executors.interpreters import Interpreters
from service.executors.local import LocalExecutor
from service.jobs import JobState, Report
from tests.executors.helpers import (
    LIMITS,
    few_descriptors,
    lines,
    make_order,
    process_lives,
    result_of,
    running,
    write_scenario,
)
from tests.support import SILENT, wait_until

Run = Callable[..., Report]


def failure_of(report: Report) -> tuple[str, str]:
    """Return the error's type and message."""
    assert report.error is not None
    return report.error["type"], report.error["message"]


def traceback_of(report: Report) -> str:
    """Return the traceback of a scenario that raised."""
    assert report.error is not None
    return report.error["traceback"] or ""


# What a scenario prints


def test_threads_print(run: Run) -> None:
    """What threads print has their names, in the order in which it was printed."""
    report = run("""
        print("main begins")
        for number in range(params.threads):
            thread = lab.Thread(target=lambda: print("hello", "from", "a thread"), name=f"worker-{number}")
            thread.start()
            thread.join()
        print("main", "ends", sep=" ... ")
        print("on stderr", file=sys.stderr)
    """)
    assert JobState.SUCCEEDED == report.status
    assert [
        ("MainThread", "main begins"),
        ("worker-0", "hello from a thread"),
        ("worker-1", "hello from a thread"),
        ("MainThread", "main ... ends"),
        ("MainThread", "on stderr"),
    ] == lines(report)
    stamps = [line["at_s"] for line in result_of(report)["output"]]
    assert stamps == sorted(stamps)
    assert stamps[0] >= 0
    assert 0 == result_of(report)["output_dropped"]


def test_threads_that_are_not_the_labs_print(run: Run) -> None:
    """What a library's own threads print has their names, though the system gives several the same ident."""
    report = run("""
        for name in ("one", "two", "three"):
            thread = threading.Thread(target=print, args=(name,), name=name)
            thread.start()
            thread.join()
        return {"outcome": "done"}
    """)
    assert [("one", "one"), ("two", "two"), ("three", "three")] == lines(report)
    assert [] == result_of(report)["threads"]


def test_output_from_c(run: Run) -> None:
    """What C writes to the descriptors, past Python or through C's own buffers, is output of no thread."""
    report = run(
        """
        os.write(1, b"descriptor 1\\n")
        os.write(2, b"descriptor 2\\n")
        sys.__stdout__.write("the real stdout\\n")
        ctypes.CDLL(None).puts(b"buffered by C")
    """,
        "import ctypes",
    )
    assert JobState.SUCCEEDED == report.status
    assert {(None, "descriptor 1"), (None, "descriptor 2"), (None, "the real stdout"), (None, "buffered by C")} == set(
        lines(report)
    )


def test_a_forked_process_prints(run: Run) -> None:
    """What a process prints that the scenario forked is output, too."""
    report = run(
        """
        process = multiprocessing.get_context("fork").Process(target=print, args=("from a process",))
        process.start()
        process.join()
        return {"outcome": "done", "code": process.exitcode}
    """,
        "import multiprocessing",
    )
    assert (JobState.SUCCEEDED, {"code": 0}) == (report.status, result_of(report)["values"])
    assert ["from a process"] == [line for _, line in lines(report)]


def test_a_forked_process_keeps_its_files(run: Run) -> None:
    """A file that a forked process opens is its own in the processes that it forks, whatever its number."""
    report = run("""
        if os.fork() == 0:
            with open("log", "w") as log:
                if os.fork() == 0:
                    log.write("hello")
                    log.flush()
                    os._exit(0)
                os.wait()
            os._exit(0)
        os.wait()
        return {"outcome": "done", "log": open("log").read()}
    """)
    assert {"log": "hello"} == result_of(report)["values"]


@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("return {'outcome': 'done'}", 0, []),
        ("sys.exit()", 0, []),
        ("sys.exit(7)", 7, []),
        ("sys.exit('no more')", 1, ["no more"]),
        ("raise ValueError('no such thing')", 1, ["ValueError: no such thing"]),
    ],
)
def test_a_forked_process_ends_as_that_of_a_script(run: Run, statement: str, code: int, said: list[str]) -> None:
    """A process that the scenario forked and that comes to the end of `run` ends as elsewhere, and tells nobody."""
    report = run(f"""
        if os.fork() == 0:
            {statement}
        _, status = os.wait()
        return {{"outcome": "done", "code": os.waitstatus_to_exitcode(status)}}
    """)
    assert (JobState.SUCCEEDED, {"code": code}) == (report.status, result_of(report)["values"])
    assert said == [line for _, line in lines(report)][-1:]
    assert "service/child" not in str(lines(report))


def test_a_program_prints(run: Run) -> None:
    """What a program prints that the scenario started is output of no thread."""
    report = run("subprocess.run(['echo', 'hello'], check=True)", "import subprocess")
    assert [(None, "hello")] == lines(report)


@pytest.mark.parametrize(
    "statement",
    ["for n in range(16_384): print('x' * 63, file=sys.stderr)", "os.write(2, (b'x' * 63 + b'\\n') * 16_384)"],
    ids=["Python", "C"],
)
def test_a_megabyte_on_stderr(run: Run, statement: str) -> None:
    """However much is printed, the link holds, what fits is kept, and the rest is counted."""
    report = run(statement, max_output_bytes=6_400)
    assert JobState.SUCCEEDED == report.status
    assert ["x" * 63] * 100 == [line for _, line in lines(report)]
    assert 16_384 - 100 == result_of(report)["output_dropped"]


def test_a_megabyte_that_fits(run: Run) -> None:
    """Output that the order allows for is kept whole, though it may be on its way when the run ends."""
    expected = [f"{n:063}" for n in range(16_384)]
    for _ in range(4):
        report = run(
            "sys.setswitchinterval(1e-5)\nfor n in range(16_384): print(f'{n:063}', file=sys.stderr)",
            max_output_bytes=1_048_576,
        )
        assert (JobState.SUCCEEDED, 0) == (report.status, result_of(report)["output_dropped"])
        assert expected == [line for _, line in lines(report)]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("for n in range(30_000): print(n)", 30_001),  # faster than it is shipped
        ("print('\\n' * 60_000)", 60_002),  # three megabytes as JSON
        ("sys.stdout.write('\\0' * 1_000_000 + '\\n')", 2),  # six
    ],
    ids=["many", "empty", "long"],
)
def test_whatever_fits_is_kept(run: Run, statement: str, expected: int) -> None:
    """Neither how fast it comes nor what it is made of costs a line its place, or breaks the link."""
    report = run(f"{statement}\ntime.sleep(0.1)\nprint('the end')", max_output_bytes=1_048_576)
    assert (JobState.SUCCEEDED, 0) == (report.status, result_of(report)["output_dropped"])
    assert (expected, "the end") == (len(lines(report)), lines(report)[-1][1])


def test_many_long_notes(run: Run) -> None:
    """As many notes as there may be, as long as they may be, at once: more than one frame can carry."""
    report = run("for _ in range(19_000): lab.note('\\0' * 500)")
    assert JobState.SUCCEEDED == report.status


@pytest.mark.parametrize("top", ["pass", "raise ValueError('x' * 9_000_000)"], ids=["name", "message"])
def test_texts_that_are_far_too_long(run: Run, top: str) -> None:
    """Of the name of a thread, and of what an exception says, as much is told as anybody reads."""
    report = run(f"thread = lab.Thread(target=int, name='n' * 9_000_000)\nthread.start()\nthread.join()\n{top}")
    assert (JobState.SUCCEEDED if top == "pass" else JobState.FAILED) == report.status
    assert 200 == len(result_of(report)["threads"][0]["name"])


def test_millions_of_lines_from_c(run: Run) -> None:
    """What C code or another program prints beyond its room is counted to the last line."""
    report = run("os.write(1, b'x\\n' * 3_000_000)", max_output_bytes=16_000)
    assert JobState.SUCCEEDED == report.status
    assert (1_000, 2_999_000) == (len(lines(report)), result_of(report)["output_dropped"])


def test_a_line_without_an_end(run: Run) -> None:
    """The last line of a run needs no line end."""
    assert [("MainThread", "no end")] == lines(run("print('no end', end='')"))


@pytest.mark.parametrize("text", ['{"type": "bye"}', r"\ud83d\udc0d", "\\\\ud83d", "\ud800", "\x00\x1b[31m\r", "🐍 é"])
def test_text_cannot_break_the_link(run: Run, text: str) -> None:
    """Whatever characters a scenario prints and returns, they are text."""
    report = run(f"print({text!a})\nreturn {{'outcome': 'done', 'text': {text!a}}}")
    assert (JobState.SUCCEEDED, None) == (report.status, report.error)
    expected = text.encode("utf-8", "replace").decode()
    assert [("MainThread", expected)] == lines(report)
    assert {"text": expected} == result_of(report)["values"]


def test_printing_while_it_is_loaded(executor: LocalExecutor) -> None:
    """What a scenario prints while it is loaded comes before what it prints when it runs."""
    report = executor.run(make_order(write_scenario("print('run')", "print('load')")), SILENT, Cancel())
    assert ["load", "run"] == [line for _, line in lines(report)]


def test_a_closed_stdout(run: Run) -> None:
    """A scenario that closes its streams has closed its own streams, and no more."""
    report = run("""
        sys.stdout.close()
        sys.__stdout__.write("held back")
        sys.__stdout__.close()
        sys.__stderr__.close()
        return {"outcome": "done", "n": 1}
    """)
    assert (JobState.SUCCEEDED, {"n": 1}) == (report.status, result_of(report)["values"])


# How a scenario ends


def test_an_exit_code(run: Run) -> None:
    """A process that ends itself is lost, with its exit code and what it had printed."""
    report = run("print('soon gone')\ntime.sleep(0.1)\nos._exit(3)")
    assert JobState.LOST == report.status
    assert "exit code 3" in failure_of(report)[1]
    assert (3, None) == (result_of(report)["process"]["exit_code"], result_of(report)["process"]["signal"])
    assert [("MainThread", "soon gone")] == lines(report)
    assert (None, None) == (result_of(report)["outcome"], result_of(report)["grade"])


def test_an_exit_code_of_zero(run: Run) -> None:
    """A process that ends itself before its answer is lost even when it calls that a success."""
    report = run("os._exit(0)")
    assert (JobState.LOST, 0) == (report.status, result_of(report)["process"]["exit_code"])


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("os.abort()", "SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
        ("os.kill(os.getpid(), signal.SIGRTMIN)", "SIGRTMIN"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", None),
    ],
)
def test_a_signal(run: Run, statement: str, name: str | None) -> None:
    """A process that dies by a signal is lost, with the signal's name where it has one."""
    report = run(statement, "import ctypes, signal")
    assert JobState.LOST == report.status
    process = result_of(report)["process"]
    assert process["signal"]
    assert process["signal"] == (name or process["signal"])
    assert process["exit_code"] is None
    assert process["signal"] in failure_of(report)[1]


def test_another_program_in_its_place(run: Run) -> None:
    """A child that becomes another program is lost, and harms no one."""
    for _ in range(5):
        report = run("os.execv('/bin/true', ['true'])")
        assert (JobState.LOST, 0) == (report.status, result_of(report)["process"]["exit_code"])


def test_other_programs_at_once() -> None:
    """Children that become other programs before their parent looks at them do not bring it down."""
    source = write_scenario("os.execv('/bin/true', ['true'])")
    executor = LocalExecutor(LIMITS, kept=[make_order(source).digest])
    try:
        with ThreadPoolExecutor(4) as pool:
            reports = list(pool.map(lambda _: executor.run(make_order(source), SILENT, Cancel()), range(60)))
    finally:
        executor.close()
    assert {(JobState.LOST, 0)} == {(r.status, result_of(r)["process"]["exit_code"]) for r in reports}


def test_an_exception(run: Run) -> None:
    """A scenario that raises has failed; the traceback shows its own lines and none of ours above them."""
    report = run("print('before')\nhelp_out()", "def help_out():\n    raise ValueError('no such thing')")
    assert JobState.FAILED == report.status
    assert ("ValueError", "no such thing") == failure_of(report)
    told = traceback_of(report).splitlines()
    assert "Traceback (most recent call last):" == told[0]
    assert told[1].lstrip().startswith('File "scenarios/probe.py", line ')
    assert told[1].endswith("in run")
    assert "    help_out()" == told[2]
    assert "    raise ValueError('no such thing')" in told
    assert "ValueError: no such thing" == told[-1]
    assert "service/child" not in traceback_of(report)
    assert [("MainThread", "before")] == lines(report)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("sys.exit(4)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("input()", "EOFError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("bytearray(1 << 40)", "MemoryError"),
        ("lab.Thread(target=print, nonsense=1)", "TypeError"),
    ],
)
def test_whatever_it_raises(run: Run, statement: str, kind: str) -> None:
    """Whatever a scenario raises is that scenario's failure, and its process ends in order."""
    report = run(statement)
    assert (JobState.FAILED, kind) == (report.status, failure_of(report)[0])
    assert (0, None) == (result_of(report)["process"]["exit_code"], result_of(report)["process"]["signal"])


def test_an_exception_that_cannot_be_told(run: Run) -> None:
    """An exception whose text cannot be had is a failure like any other."""
    report = run("raise Shy", "class Shy(Exception):\n    def __str__(self): raise ValueError('shy')")
    assert (JobState.FAILED, "Shy") == (report.status, failure_of(report)[0])


def test_an_exception_in_a_thread(run: Run) -> None:
    """A thread that raises is a warning and a printed traceback; the scenario goes on."""
    report = run("""
        thread = lab.Thread(target=lambda: 1 // 0, name="divider")
        thread.start()
        thread.join()
        return {"outcome": "done"}
    """)
    assert JobState.SUCCEEDED == report.status
    (warning,) = result_of(report)["warnings"]
    assert "divider" in warning
    assert "ZeroDivisionError" in warning
    printed = [line for thread, line in lines(report) if thread == "divider"]
    assert "Traceback (most recent call last):" in printed
    assert printed[-1].startswith("ZeroDivisionError: ")


def test_a_thread_that_exits(run: Run) -> None:
    """A thread may end itself by `sys.exit`: as in any script, nobody makes words about it."""
    report = run("thread = lab.Thread(target=sys.exit)\nthread.start()\nthread.join()")
    assert (JobState.SUCCEEDED, [], []) == (report.status, result_of(report)["warnings"], lines(report))


def test_a_warning_is_said_once(run: Run) -> None:
    """A scenario's own warnings are in the answer, each once."""
    report = run("lab.warn('Mind the gap.')\nlab.warn('Mind the gap.')")
    assert ["Mind the gap."] == result_of(report)["warnings"]


def test_values_that_are_too_deep(run: Run) -> None:
    """Values that nobody could read are the scenario's failure, and not a broken link."""
    report = run("value = []\nfor _ in range(100): value = [value]\nreturn {'outcome': 'done', 'value': value}")
    assert (JobState.FAILED, "ValueError") == (report.status, failure_of(report)[0])
    assert "nested deeper than 64" in failure_of(report)[1]


def test_a_flood_of_frames_does_not_outlast_the_deadline(executor: LocalExecutor) -> None:
    """A child that talks without pause, past its own recorder, is ended when its time is up."""
    line = '{"type":"output","lines":[[1,null,null,"x"]]}\\n'
    source = write_scenario(f"while True: os.write(3, b'{line}' * 100)")
    report = executor.run(make_order(source, timeout_s=0.5, max_output_bytes=10**12), SILENT, Cancel())
    assert JobState.TIMED_OUT == report.status


def test_a_flood_of_empty_frames(run: Run) -> None:
    """A child that talks without pause and says nothing breaks the link, at once."""
    report = run("""while True: os.write(3, b'{"type":"events","events":[]}\\n' * 100)""")
    assert (JobState.LOST, "ChildBroken") == (report.status, failure_of(report)[0])


def test_a_raw_thread_has_its_say(run: Run) -> None:
    """What a thread without a `threading.Thread` notes is told, too."""
    report = run("_thread.start_new_thread(lab.note, ('hello',))\ntime.sleep(0.2)", "import _thread")
    assert (JobState.SUCCEEDED, None) == (report.status, report.error)


def test_a_warning_that_is_no_sentence(run: Run) -> None:
    """Whatever a scenario warns with is text of at most 500 characters."""
    report = run("lab.warn(ValueError('Mind the gap.'))\nlab.warn(None)\nlab.warn('x' * 9_000_000)")
    assert JobState.SUCCEEDED == report.status
    assert ["Mind the gap.", "None", "x" * 500] == result_of(report)["warnings"]


def test_warnings_without_end(run: Run) -> None:
    """Of warnings without end, from several threads, the first 100 are told, and the rest is counted."""
    report = run("""
        def work(name):
            for number in range(500): lab.warn(f"{name} {number}")
        threads = [lab.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """)
    assert JobState.SUCCEEDED == report.status
    *kept, last = result_of(report)["warnings"]
    assert (100, 100) == (len(kept), len(set(kept)))
    assert "Warnings left out after the first 100: 1900." == last


def test_progress(executor: LocalExecutor) -> None:
    """How far a scenario is can be said up to the largest number."""
    told: list[JobEvent] = []
    order = make_order(write_scenario("lab.progress(0, 0)\nlab.progress(1, 2.0)\nlab.progress(1, 2**63 - 1)"))
    assert JobState.SUCCEEDED == executor.run(order, told.extend, Cancel()).status
    assert [(0, 0), (1, 2), (1, 2**63 - 1)] == [(e["done"], e["of"]) for e in told if e["type"] == "progress"]


@pytest.mark.parametrize(
    "progress", ["(1, 2**63)", "(10**30, 10**30)", "(2, 1)", "(-1, 1)", "(float('nan'), 1)", "(1, 'two')"]
)
def test_progress_that_is_none(run: Run, progress: str) -> None:
    """Numbers that cannot say how far a scenario is are its failure, and its traceback shows where."""
    report = run(f"print('said')\nlab.progress{progress}")
    assert (JobState.FAILED, "ValueError") == (report.status, failure_of(report)[0])
    assert f"lab.progress{progress}" in traceback_of(report)
    assert [("MainThread", "said")] == lines(report)


@pytest.mark.parametrize(
    "value",
    [
        "{'outcome': 'done', 'x': float('nan')}",
        "{'outcome': 'done', 'x': [float('inf')]}",
        "{'outcome': 'done', 'x': {1, 2}}",
        "{'outcome': 'done', 'x': b'bytes'}",
        "{'outcome': 'done', 'x': '.' * 9_000_000}",
        "None",
        "['done']",
        "{}",
        "{'outcome': None}",
        "{'outcome': 'unheard of'}",
        "{'outcome': ['done']}",
    ],
    ids=lambda value: value[:40],
)
def test_a_result_that_is_none(run: Run, value: str) -> None:
    """A result that JSON has no word for, that is too long for a frame, or has no known outcome, is a failure."""
    report = run(f"return {value}")
    assert JobState.FAILED == report.status
    assert traceback_of(report)
    assert (None, {}) == (result_of(report)["outcome"], result_of(report)["values"])
    assert 0 == result_of(report)["process"]["exit_code"]


def test_values(run: Run) -> None:
    """What a scenario returns beside its outcome is told as it is."""
    report = run("return {'outcome': 'late', 'n': 1, 'x': 0.5, 'list': [None, True], 'deep': {'a': {'b': 'ü'}}}")
    assert {"n": 1, "x": 0.5, "list": [None, True], "deep": {"a": {"b": "ü"}}} == result_of(report)["values"]
    assert ("late", "interesting", "It came late.") == (
        result_of(report)["outcome"],
        result_of(report)["grade"],
        result_of(report)["meaning"],
    )


def test_no_params_that_it_has(run: Run) -> None:
    """Parameters that the scenario does not have are its failure, and nothing began."""
    report = run("pass", unknown=1)
    assert (JobState.FAILED, "TypeError", None) == (report.status, failure_of(report)[0], report.result)


@pytest.mark.parametrize(
    "statement", ["raise RuntimeError('at import')", "1 +", "import nothing_of_this_name", "sys.exit()"]
)
def test_a_source_that_does_not_load(executor: LocalExecutor, statement: str) -> None:
    """A source that raises when it is loaded has failed before it began, with its traceback."""
    report = executor.run(make_order(write_scenario("pass", statement)), SILENT, Cancel())
    assert (JobState.FAILED, None) == (report.status, report.result)
    assert "scenarios/probe.py" in traceback_of(report)
    assert "service/child" not in traceback_of(report)


_STAYS = "(read pid rest < /proc/self/stat; echo $pid; exec sleep 60 > /dev/null 2>&1) &"

# Deadlines, and what a process waits for before it ends


def test_it_never_returns(run: Run) -> None:
    """A job that is not done at its deadline is killed, called stuck, and tells what was seen until then."""
    report = run(
        """
        print("begun")
        lab.Thread(target=time.sleep, args=(60,), name="sleeper").start()
        while True: time.sleep(0.01)
    """,
        timeout_s=0.3,
    )
    assert (JobState.TIMED_OUT, None) == (report.status, report.error)
    result = result_of(report)
    assert ("stuck", "interesting", {}) == (result["outcome"], result["grade"], result["values"])
    assert [("MainThread", "begun")] == lines(report)
    assert [("sleeper", None, None)] == [(row["name"], row["ended_s"], row["cpu_s"]) for row in result["threads"]]
    assert {"before": 1, "peak": 2, "after": None} == result["active_threads"]
    assert (None, None, None) == (result["timings"]["wall_s"], result["timings"]["cpu_s"], result["output_dropped"])
    assert (None, "SIGKILL") == (result["process"]["exit_code"], result["process"]["signal"])
    assert (result["process"]["lived_s"] or 0) >= 0.3


def test_a_thread_that_outlives_run(run: Run) -> None:
    """The process waits for a thread that is no daemon, until its deadline; what `run` counted is told."""
    report = run(
        """
        lab.Thread(target=time.sleep, args=(60,), name="left").start()
        return {"outcome": "done", "n": 1}
    """,
        timeout_s=0.3,
    )
    assert (JobState.TIMED_OUT, "stuck") == (report.status, result_of(report)["outcome"])
    assert {"n": 1} == result_of(report)["values"]
    assert {"before": 1, "peak": 2, "after": 2} == result_of(report)["active_threads"]
    assert [("left", None)] == [(row["name"], row["ended_s"]) for row in result_of(report)["threads"]]


def test_a_thread_that_ends_after_run(run: Run) -> None:
    """A thread that is no daemon is joined before the process ends, so its end and its output are seen."""
    report = run("""
        lab.Thread(target=lambda: (time.sleep(0.1), print("after run")), name="slow").start()
    """)
    assert JobState.SUCCEEDED == report.status
    assert [("slow", "after run")] == lines(report)
    (row,) = result_of(report)["threads"]
    assert (row["ended_s"] or 0) >= 0.1
    assert 2 == result_of(report)["active_threads"]["after"]
    assert (row["ended_s"] or 0) > (result_of(report)["timings"]["wall_s"] or 9)


def test_a_daemon_thread(run: Run) -> None:
    """The process does not wait for a daemon thread, and its end is not seen."""
    report = run("lab.Thread(target=time.sleep, args=(60,), name='left', daemon=True).start()")
    assert (JobState.SUCCEEDED, 0) == (report.status, result_of(report)["process"]["exit_code"])
    assert [("left", True, None)] == [(r["name"], r["daemon"], r["ended_s"]) for r in result_of(report)["threads"]]
    assert (result_of(report)["process"]["lived_s"] or 99) < 30


def test_busy_daemon_threads_at_the_end(run: Run) -> None:
    """Daemon threads that print until the very end of the process cannot spoil its last words."""
    for _ in range(10):
        report = run(
            """
            def talk():
                while True:
                    print("still here")
                    time.sleep(0.0001)
            for _ in range(3):
                lab.Thread(target=talk, daemon=True).start()
            time.sleep(0.02)
        """,
            max_output_bytes=1000,
        )
        assert (JobState.SUCCEEDED, None) == (report.status, report.error)


def test_daemon_threads_that_print_without_pause(run: Run) -> None:
    """Threads that print faster than anybody could read neither hold up the end nor fill the memory."""
    report = run(
        """
        def talk():
            while True: print("still here")
        for _ in range(3):
            lab.Thread(target=talk, daemon=True).start()
        time.sleep(0.5)
    """,
        max_output_bytes=1000,
        timeout_s=6.0,
    )
    assert (JobState.SUCCEEDED, None) == (report.status, report.error)
    assert (result_of(report)["output_dropped"] or 0) > 0
    assert (result_of(report)["process"]["max_rss_bytes"] or 1 << 40) < 250_000_000


def test_at_exit(run: Run) -> None:
    """Endings run after threads that are no daemons were joined, last in first out, over what `run` returned."""
    report = run("""
        seen = []
        lab.at_exit(lambda: {"outcome": "late", "seen": list(seen)})
        lab.at_exit(lambda: seen.append("ending") or {"n": 2})
        lab.Thread(target=lambda: (time.sleep(0.05), seen.append("thread"))).start()
        return {"outcome": "done", "n": 1, "kept": True}
    """)
    assert (JobState.SUCCEEDED, "late") == (report.status, result_of(report)["outcome"])
    assert {"seen": ["thread", "ending"], "n": 2, "kept": True} == result_of(report)["values"]
    assert "It came late." == result_of(report)["meaning"]


@pytest.mark.parametrize(
    "ending",
    [
        "1 // 0",
        "None",
        "{'outcome': 'unheard of'}",
        "{'n': float('nan')}",
        "sys.exit(3)",
    ],
)
def test_an_ending_that_fails(run: Run, ending: str) -> None:
    """An ending that raises, or returns what is no result, is the scenario's failure."""
    report = run(f"print('said')\nlab.at_exit(lambda: {ending})")
    assert JobState.FAILED == report.status
    assert 0 == result_of(report)["process"]["exit_code"]
    assert [("MainThread", "said")] == lines(report)


def test_atexit(run: Run) -> None:
    """Callbacks of `atexit` run as at the end of any script, and one that raises does not fail the job."""
    report = run(
        """
        atexit.register(print, "first registered")
        atexit.register(lambda: 1 // 0)
        atexit.register(print, "last registered")
    """,
        "import atexit",
    )
    assert JobState.SUCCEEDED == report.status
    printed = [line for _, line in lines(report)]
    assert "last registered" == printed[0]
    assert "first registered" == printed[-1]


def test_a_deadline_that_the_scenario_notices(run: Run) -> None:
    """A scenario that looks at its deadline ends by itself, in order, and is timed out."""
    report = run("while True: lab.checkpoint()", timeout_s=0.1)
    assert (JobState.TIMED_OUT, None) == (report.status, report.error)
    assert (0, None) == (result_of(report)["process"]["exit_code"], result_of(report)["process"]["signal"])


# Cancel


def test_a_scenario_that_heeds_cancel(executor: LocalExecutor) -> None:
    """A scenario that looks whether it was cancelled ends by itself, in order, and nothing has to be killed."""
    source = write_scenario("""
        raise_flag()
        try:
            while True: lab.checkpoint()
        finally:
            print("cleaned up")
    """)
    patient = LocalExecutor(replace(LIMITS, cancel_grace_s=20.0))
    try:
        with running(patient, make_order(source)) as job:
            job.flag()
            job.cancel.wish()
            report = job.report()
    finally:
        patient.close()
    assert (JobState.CANCELLED, None) == (report.status, report.error)
    assert (0, None) == (result_of(report)["process"]["exit_code"], result_of(report)["process"]["signal"])
    assert [("MainThread", "cleaned up")] == lines(report)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("while True: pass", id="busy"),
        pytest.param("threading.Lock().acquire() and lock.acquire()", id="deadlock"),
        pytest.param("while True: ctypes.PyDLL(None).sleep(60)", id="holding the GIL in C"),
        pytest.param("re.match('(a*)*b', 'a' * 64)", id="holding the GIL in a regular expression"),
        pytest.param("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nwhile True: pass", id="deaf"),
        pytest.param("while True: os.kill(os.getpid(), signal.SIGSTOP)", id="stopped"),
        pytest.param("while True:\n    try: lab.checkpoint()\n    except BaseException: pass", id="defiant"),
        pytest.param("lab.Thread(target=lock.acquire).start()", id="run has returned"),
        pytest.param("lab.at_exit(lock.acquire)", id="in an ending"),
        pytest.param("os.setpgid(0, os.getppid())\nwhile True: pass", id="fled from its group"),
    ],
)
def test_cancel_ends_anything(executor: LocalExecutor, body: str) -> None:
    """A job that runs is gone when `run` returns, whatever holds it; what it had printed is told."""
    top = "import ctypes, re, signal\nlock = threading.Lock()\nlock.acquire()"
    source = write_scenario(f"print('said')\ntime.sleep(0.1)\nraise_flag()\n{body}", top)
    server = executor.server()
    with running(executor, make_order(source)) as job:
        child = int(job.flag())
        job.cancel.wish()
        report = job.report()
    assert (JobState.CANCELLED, None) == (report.status, report.error)
    assert not process_lives(child)
    assert child == result_of(report)["process"]["pid"]
    assert "SIGKILL" == result_of(report)["process"]["signal"]
    assert [("MainThread", "said")] == lines(report)
    assert server is executor.server()


def test_64_busy_threads_are_cancelled(executor: LocalExecutor) -> None:
    """Many threads that compute end as fast as one, and each is told."""
    source = write_scenario("""
        sys.setswitchinterval(0.0001)  # else the flag waits for every thread that computes
        gate = threading.Event()
        def work():
            gate.wait()
            while True: pass
        threads = [lab.Thread(target=work, name=f"busy-{n}") for n in range(64)]
        for thread in threads: thread.start()
        gate.set()
        raise_flag()
    """)
    with running(executor, make_order(source)) as job:
        job.flag(60.0)
        asked = time.monotonic()
        job.cancel.wish()
        report = job.report()
        assert time.monotonic() - asked < 10
    assert JobState.CANCELLED == report.status
    assert {f"busy-{n}" for n in range(64)} >= {row["name"] for row in result_of(report)["threads"]}
    assert [None] * len(result_of(report)["threads"]) == [row["ended_s"] for row in result_of(report)["threads"]]


def test_cancel_while_it_is_loaded(executor: LocalExecutor) -> None:
    """A job that is cancelled before its scenario began has no result, and is cancelled."""
    source = write_scenario("pass", "raise_flag()\nwhile True: pass")
    with running(executor, make_order(source)) as job:
        job.flag()
        job.cancel.wish()
        report = job.report()
    assert (JobState.CANCELLED, None, None) == (report.status, report.error, report.result)


def test_signals_are_for_the_scenario(run: Run) -> None:
    """The thread that sends events takes no signal: one in 200 jobs that sent itself SIGSEGV was told as succeeded."""
    report = run(
        "(shipper,) = set(os.listdir('/proc/self/task')) - {os.readlink('/proc/self')}\n"
        "told = open(f'/proc/self/task/{shipper}/status').read()\n"
        "return {'outcome': 'done', 'blocked': int(told.partition('SigBlk:')[2].split()[0], 16)}"
    )
    blocked = result_of(report)["values"]["blocked"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1, signal.SIGALRM):
        assert blocked & 1 << number - 1


def test_threads_that_compute_are_told_of_while_they_do(executor: LocalExecutor) -> None:
    """That a thread has started is told while it computes, though what it computes tells nothing."""
    spin = "def spin():\n    while not lab.cancelled: pass\nlab.Thread(target=spin).start()"
    order = make_order(write_scenario(spin))
    told: list[JobEvent] = []
    cancel = Cancel()
    with ThreadPoolExecutor(1) as pool:
        running_job = pool.submit(executor.run, order, told.extend, cancel)
        try:
            wait_until(lambda: "start" in {event["type"] for event in told})
            assert not running_job.done()
        finally:
            cancel.wish()


def test_it_does_not_begin() -> None:
    """A child that does not begin in time has not timed out: its job's time had not begun, and it is tried again."""
    executor = LocalExecutor(replace(LIMITS, startup_timeout_s=0.5))
    order = make_order(write_scenario("pass", "while True: pass"), timeout_s=60.0)
    try:
        with pytest.raises(ChildLate, match=r"did not begin within 0\.5 s"):
            executor.run(order, SILENT, Cancel())
    finally:
        executor.close()


def test_it_begins_when_it_was_given_up() -> None:
    """What a child does that begins too late, while it is being ended, is no answer: it had no time for it."""
    executor = LocalExecutor(replace(LIMITS, startup_timeout_s=0.5, cancel_grace_s=20.0))
    order = make_order(write_scenario("pass", "time.sleep(1.5)"), timeout_s=60.0)
    told: list[JobEvent] = []
    try:
        with pytest.raises(ChildLate):
            executor.run(order, told.extend, Cancel())
    finally:
        executor.close()
    assert "started" in {event["type"] for event in told}


@pytest.mark.parametrize("start", [["sh", "-c", _STAYS], ["setsid", "sh", "-c", _STAYS]], ids=["group", "session"])
@pytest.mark.parametrize(
    "ending", ["while True: time.sleep(1)", "pass", "os._exit(1)"], ids=["cancelled", "done", "lost"]
)
def test_started_processes_are_gone(executor: LocalExecutor, start: list[str], ending: str) -> None:
    """A process that a scenario started, and whose parent is gone, goes with its job, however that ends."""
    body = f"""
        subprocess.run({start}, stdout=open("number", "w"), check=True)
        while not os.path.getsize("number"): time.sleep(0.001)
        print(open("number").read())
        raise_flag()
        time.sleep(0.2)
        {ending}
    """
    with running(executor, make_order(write_scenario(body, "import subprocess"))) as job:
        job.flag()
        if ending.startswith("while"):
            job.cancel.wish()
        report = job.report()
    assert not process_lives(int(lines(report)[0][1]))


# What a child finds


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child sees nothing of the service's environment; its home and its temporary folder are its own."""
    monkeypatch.setenv("THREADLAB_DATABASE_URL", "postgresql://secret")
    fresh = LocalExecutor(LIMITS)
    try:
        body = "return {'outcome': 'done', 'env': dict(os.environ), 'cwd': os.getcwd(), 'tmp': tempfile.gettempdir()}"
        values = result_of(fresh.run(make_order(write_scenario(body, "import tempfile")), SILENT, Cancel()))["values"]
    finally:
        fresh.close()
    allowed = {"PATH", "LD_LIBRARY_PATH", "LANG", "LC_CTYPE", "HOME", "TMPDIR"}
    assert set() == set(values["env"]) - allowed
    assert [values["cwd"]] * 3 == [values["env"]["HOME"], values["env"]["TMPDIR"], values["tmp"]]
    assert values["cwd"] not in (str(Path.cwd()), str(Path.home()))


def test_the_working_directory(run: Run) -> None:
    """The working directory is fresh, empty and its own, and is gone after the job with all that is in it."""
    body = """
        found = os.listdir(".")
        os.makedirs("a/b")
        open("a/b/file", "w").close()
        return {"outcome": "done", "cwd": os.getcwd(), "found": found, "mode": os.stat(".").st_mode & 0o777}
    """
    first, second = (result_of(run(body))["values"] for _ in range(2))
    assert ([], [], 0o700) == (first["found"], second["found"], first["mode"])
    assert first["cwd"] != second["cwd"]
    wait_until(lambda: not Path(first["cwd"]).exists() and not Path(second["cwd"]).exists())


def test_descriptors(executor: LocalExecutor) -> None:
    """A child has the standard descriptors, its link and its fault handler's file, whatever else is open elsewhere."""
    own = write_scenario("return {'outcome': 'done', 'open': sorted(map(int, os.listdir('/proc/self/fd')))}")
    with running(executor, make_order(write_scenario("raise_flag()\ntime.sleep(60)"))) as job:
        job.flag()
        found = result_of(executor.run(make_order(own), SILENT, Cancel()))["values"]["open"]
    assert [0, 1, 2, 3, 4] == found[:5]
    assert len(found) <= 6  # one more reads the folder


def test_limits(run: Run) -> None:
    """The limits that the operator set are in force, and the child cannot raise them."""
    values = result_of(
        run(
            """
            names = ("RLIMIT_CORE", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE")
            return {"outcome": "done", **{name: resource.getrlimit(getattr(resource, name)) for name in names}}
        """,
            "import resource",
        )
    )["values"]
    assert {
        "RLIMIT_CORE": [0, 0],
        "RLIMIT_DATA": [LIMITS.memory_bytes] * 2,
        "RLIMIT_FSIZE": [LIMITS.file_bytes] * 2,
        "RLIMIT_NOFILE": [LIMITS.open_files] * 2,
    } == values


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("[open('/dev/null') for _ in range(500)]", "OSError"),
        ("open('big', 'wb').write(bytes(20_000_000))", "OSError"),
        ("os.write(1, bytes(20_000_000)); os.write(1, b'more')", "OSError"),
    ],
)
def test_a_limit_that_is_reached(run: Run, statement: str, kind: str) -> None:
    """A scenario that reaches a limit gets the error that Python has for it."""
    report = run(f"kept = {statement}", max_output_bytes=100)
    assert (JobState.FAILED, kind) == (report.status, failure_of(report)[0])


def test_no_privileges_can_be_gained(run: Run) -> None:
    """Neither the child nor a program it starts can become more than it is."""
    body = "return {'outcome': 'done', 'status': open('/proc/self/status').read()}"
    assert "NoNewPrivs:\t1" in result_of(run(body))["values"]["status"]


def test_each_run_starts_from_the_same_state(run: Run) -> None:
    """What a scenario changes in its interpreter is not there for the next."""
    body = "before = getattr(os, 'mark', None)\nos.mark = 1\nreturn {'outcome': 'done', 'n': before}"
    assert [{"n": None}] * 2 == [result_of(run(body))["values"] for _ in range(2)]


# What is measured


def test_what_is_said_of_the_process(run: Run) -> None:
    """The process is told as its parent saw it."""
    report = run("""
        until = time.process_time() + 0.1
        while time.process_time() < until: pass
        return {"outcome": "done", "pid": int(os.readlink("/proc/self"))}
    """)
    process, timings = result_of(report)["process"], result_of(report)["timings"]
    assert result_of(report)["values"]["pid"] == process["pid"]
    assert (0, None) == (process["exit_code"], process["signal"])
    assert 0.1 <= (timings["cpu_s"] or 0) <= (process["cpu_s"] or 0)
    assert (timings["wall_s"] or 0) >= 0.05  # the clocks of CPU time and of time tick apart
    assert (process["lived_s"] or 0) > 0
    assert 0 < (timings["startup_s"] or 0) < LIMITS.startup_timeout_s
    assert 1_000_000 < (process["max_rss_bytes"] or 0) < 1_000_000_000


def test_what_is_said_of_threads(run: Run) -> None:
    """Each thread of the lab has a row, in the order of their starts, measured by itself."""
    report = run("""
        idents, natives = [], []
        gate = threading.Event()
        def work(busy_s):
            idents.append(threading.get_ident())
            natives.append(threading.get_native_id())
            until = time.thread_time() + busy_s
            while time.thread_time() < until: pass
            gate.wait()
        busy = lab.Thread(target=work, args=(0.1,), name="busy")
        idle = lab.Thread(work, kwargs={"busy_s": 0.0}, name="idle", daemon=True)
        busy.start()
        while not idents: time.sleep(0.001)
        idle.start()
        while len(idents) < 2: time.sleep(0.001)
        gate.set()
        busy.join()
        idle.join()
        return {"outcome": "done", "idents": idents, "natives": natives}
    """)
    assert JobState.SUCCEEDED == report.status
    rows, values = result_of(report)["threads"], result_of(report)["values"]
    assert [("busy", False), ("idle", True)] == [(row["name"], row["daemon"]) for row in rows]
    assert values["idents"] == [row["ident"] for row in rows]
    assert values["natives"] == [row["native_id"] for row in rows]
    for row in rows:
        assert 0 <= row["started_s"] <= (row["ended_s"] or 0)
        assert (row["voluntary_switches"] or 0) >= 0
        assert row["involuntary_switches"] is not None
    assert (rows[0]["cpu_s"] or 0) >= 0.1
    assert 0 <= (rows[1]["cpu_s"] or 0) < 0.1
    assert {"before": 1, "peak": 3, "after": 1} == result_of(report)["active_threads"]


def test_threads_of_one_name(run: Run) -> None:
    """Threads that share a name have each their own end, whichever ends first."""
    report = run("""
        gate = threading.Event()
        first = lab.Thread(target=gate.wait, name="twin")
        first.start()
        second = lab.Thread(target=time.sleep, args=(0,), name="twin")
        second.start()
        second.join()
        between_s = lab.time_passed()
        gate.set()
        first.join()
        return {"outcome": "done", "first": first.ident, "second": second.ident, "between_s": between_s}
    """)
    assert JobState.SUCCEEDED == report.status
    values = result_of(report)["values"]
    ended = {row["ident"]: row["ended_s"] or 0 for row in result_of(report)["threads"]}
    assert ended[values["second"]] <= values["between_s"] <= ended[values["first"]]


def test_threads_one_after_another(run: Run) -> None:
    """The peak is the highest count at one time, not the number of threads."""
    report = run("""
        for _ in range(5):
            thread = lab.Thread(target=time.sleep, args=(0,))
            thread.start()
            thread.join()
    """)
    assert 5 == len(result_of(report)["threads"])
    assert {"before": 1, "peak": 2, "after": 1} == result_of(report)["active_threads"]


def test_a_switch_interval_that_was_set(run: Run) -> None:
    """The answer names the switch interval under which the scenario ran."""
    report = run("sys.setswitchinterval(0.001)")
    assert report.python is not None
    assert 0.001 == report.python["switch_interval_s"]
    assert sys.executable == report.python["executable"]


def test_events_at_the_highest_rate(run: Run) -> None:
    """Threads that begin and end without pause while the run ends are all told, and in order."""
    for _ in range(20):
        report = run("""
            sys.setswitchinterval(1e-6)
            stop = []
            def work(): print("here")
            def churn():
                while not stop:
                    thread = lab.Thread(target=work)
                    thread.start()
                    thread.join()
            for _ in range(4): lab.Thread(target=churn).start()
            lab.Thread(target=lambda: (time.sleep(0.025), stop.append(1))).start()
            time.sleep(0.02)
        """)
        assert (JobState.SUCCEEDED, None) == (report.status, report.error)
        assert len(result_of(report)["threads"]) - 5 == len(lines(report))
        assert all(row["ended_s"] is not None for row in result_of(report)["threads"])


def test_starts_and_ends_of_threads_are_collected(executor: LocalExecutor) -> None:
    """Threads that only begin and end are told of some times a second, so that it costs them little; all are told."""
    source = write_scenario("""
        begun = 0
        while lab.time_passed() < 1.0:
            lab.Thread(target=int).start()
            begun += 1
            time.sleep(0.005)
        return {"outcome": "done", "begun": begun}
    """)
    told: list[int] = []  # starts, each time that anything was told

    def sink(events: list[JobEvent]) -> None:
        told.append(sum(event["type"] == "start" for event in events))

    report = executor.run(make_order(source), sink, Cancel())
    assert result_of(report)["values"]["begun"] == sum(told) == len(result_of(report)["threads"])
    assert 1 < sum(map(bool, told)) <= 10


def test_threads_without_end(run: Run) -> None:
    """Of a scenario that starts threads without end the first 10,000 are told, and the rest is counted."""
    report = run("""
        for _ in range(10_020):
            thread = lab.Thread(target=int)
            thread.start()
            thread.join()
    """)
    assert JobState.SUCCEEDED == report.status
    result = result_of(report)
    assert (10_000, 2 * 20) == (len(result["threads"]), result["trace"]["dropped"])


# A scenario that fights the link


@pytest.mark.parametrize(
    "garbage",
    ["b'garbage\\n'", "b'{}\\n'", "b'[1]\\n'", 'b\'{"type":"hello"}\\n\'', "b'\\xff\\n'", "b'x' * 9_000_000"],
    ids=lambda garbage: garbage[:12],
)
def test_garbage_on_the_link(executor: LocalExecutor, garbage: str) -> None:
    """A child that says what it should not is killed and lost, and the text says why."""
    body = f"time.sleep(0.1)\ndata = {garbage}\nwhile data: data = data[os.write(3, data):]\ntime.sleep(60)"
    report = executor.run(make_order(write_scenario(body)), SILENT, Cancel())
    assert JobState.LOST == report.status
    kind, message = failure_of(report)
    assert "ChildBroken" == kind
    assert "broke the protocol" in message
    assert "SIGKILL" == result_of(report)["process"]["signal"]


def test_what_came_before_the_garbage(run: Run) -> None:
    """What a child said before it broke the protocol is told, even if both came in one read."""
    report = run("""os.write(3, b'{"type":"output","lines":[[1,null,null,"said"]]}\\ngarbage\\n')\ntime.sleep(60)""")
    assert (JobState.LOST, "ChildBroken") == (report.status, failure_of(report)[0])
    assert [(None, "said")] == lines(report)


@pytest.mark.parametrize(
    "number",
    [10**400, -(10**400), "1e999", '"nan"'],
    ids=["huge", "negative", "infinite", "no number"],
)
def test_a_forged_number(executor: LocalExecutor, number: Any) -> None:
    """A number that no clock can show does not get through, and nothing but the job is lost."""
    forged = (
        '{"type":"result","outcome":"done","grade":"acceptable","meaning":"","values":{},"cpu_ns":1,"active_threads":1,'
        f'"wall_ns":{number},"switch_interval_s":{number}}}\n'
    )
    report = executor.run(
        make_order(write_scenario(f"os.write(3, {forged.encode()!r})\ntime.sleep(60)")), SILENT, Cancel()
    )
    assert (JobState.LOST, "ChildBroken") == (report.status, failure_of(report)[0])


def test_a_second_voice_on_the_link(run: Run) -> None:
    """A forked copy of the scenario that tells its own end cannot be taken for the job's."""
    report = run("if os.fork() == 0: return {'outcome': 'late'}\nos.wait()\nreturn {'outcome': 'done'}")
    assert report.status in (JobState.LOST, JobState.SUCCEEDED)
    assert result_of(report)["outcome"] != "late"


@pytest.mark.parametrize(
    ("closed", "status"),
    [((1, 2), JobState.SUCCEEDED), ((0,), JobState.SUCCEEDED), ((3,), JobState.LOST), ((0, 1, 2, 3), JobState.LOST)],
)
def test_closed_descriptors(executor: LocalExecutor, closed: tuple[int, ...], status: JobState) -> None:
    """Without its standard descriptors a scenario goes on; without its link it is lost, and ends soon."""
    body = f"print('said')\nfor number in {closed}: os.close(number)\ntime.sleep(0.05)"
    report = executor.run(make_order(write_scenario(body)), SILENT, Cancel())
    assert status == report.status
    if status is JobState.SUCCEEDED:
        assert [("MainThread", "said")] == lines(report)


def test_something_else_at_its_descriptors(run: Run) -> None:
    """A scenario that puts an endless file where its output is collected does not hold up its own end."""
    report = run("print('said')\nos.dup2(os.open('/dev/zero', os.O_RDONLY), 1)", timeout_s=5.0)
    assert JobState.SUCCEEDED == report.status


def test_its_link_closed_and_busy(executor: LocalExecutor) -> None:
    """A child that closed its link is gone long before its deadline, though it computes."""
    report = executor.run(make_order(write_scenario("os.close(3)\nwhile True: pass"), timeout_s=60.0), SILENT, Cancel())
    assert JobState.LOST == report.status
    assert (result_of(report)["process"]["lived_s"] or 99) < 30


# The fork server, and the service


def test_the_fork_server_is_killed() -> None:
    """When the fork server dies its children die, their jobs may be tried again, and the next run has a new one."""
    executor = LocalExecutor(LIMITS)
    try:
        first = executor.server()
        source = write_scenario("raise_flag()\nwhile True: pass")
        with running(executor, make_order(source)) as job:
            child = int(job.flag())
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises(ForkServerDied):
                job.report()
        wait_until(lambda: not process_lives(child))
        assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
        assert first.pid != executor.server().pid
    finally:
        executor.close()


def test_the_fork_server_goes_before_it_hears_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was about to be given to a fork server when that died is given to the next, and loses no attempt."""
    executor = LocalExecutor(LIMITS)
    try:
        first = executor.server()
        first.close()
        monkeypatch.setattr(ForkServer, "alive", True)  # as it was a moment ago
        assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
        assert first.pid != executor.server().pid
    finally:
        executor.close()


def test_every_fork_server_goes_before_it_hears_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is not given to one fork server after the other for ever."""
    asked: list[ForkServer] = []

    def die(server: ForkServer, _: Order) -> Child:
        asked.append(server)
        raise ForkServerDied("The fork server is gone.")

    monkeypatch.setattr(ForkServer, "fork", die)
    executor = LocalExecutor(LIMITS)
    try:
        with pytest.raises(ForkServerDied):
            executor.run(make_order(write_scenario("pass")), SILENT, Cancel())
        assert 3 == len(asked) == len({server.pid for server in asked})
    finally:
        executor.close()


def test_a_scenario_kills_the_fork_server() -> None:
    """Where nothing keeps a scenario from killing its parent, it ends with it, and the next job runs."""
    executor = LocalExecutor(replace(LIMITS, isolate=False))
    try:
        order = make_order(write_scenario("os.kill(os.getppid(), 9)\nwhile True: pass"))
        with pytest.raises(ExecutorError):
            executor.run(order, SILENT, Cancel())
        assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
    finally:
        executor.close()


def test_close_leaves_nothing() -> None:
    """After close the fork server, its children and their folders are gone, and no job is taken."""
    executor = LocalExecutor(LIMITS)
    source = write_scenario("raise_flag()\nwhile True: pass")
    server = executor.server().pid
    with running(executor, make_order(source)) as job:
        child = int(job.flag())
        executor.close()
        with suppress(ExecutorError):
            assert job.report().status is not JobState.SUCCEEDED
    assert [False, False] == [process_lives(server), process_lives(child)]
    assert not job.folder.parent.exists()
    with pytest.raises(ForkServerDied, match="closed"):
        executor.run(make_order(source), SILENT, Cancel())


_SERVICE = """
import sys
from service.executors.local import LocalExecutor
from tests.executors.helpers import LIMITS, make_order, running, write_scenario

executor = LocalExecutor(LIMITS)
with running(executor, make_order(write_scenario("raise_flag()\\nwhile True: pass"))) as job:
    print(executor.server().pid, job.flag(), job.folder, flush=True)
    job.report()
"""


def test_the_service_is_killed() -> None:
    """When the service is killed its fork server, its children and their folders are gone soon after."""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", _SERVICE], cwd=root, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            server, child, folder = service.stdout.readline().split()
        finally:
            service.kill()
    wait_until(lambda: not process_lives(int(child)) and not process_lives(int(server)))
    wait_until(lambda: not Path(folder).parent.exists())


def test_a_kept_scenario_is_loaded_once() -> None:
    """A scenario to be kept is loaded in the fork server by its first job; any other by each child."""
    top = "pid = int(os.readlink('/proc/self'))"
    body = "return {'outcome': 'done', 'loaded_by': pid}"
    source = write_scenario(body, top)
    kept = make_order(source)
    executor = LocalExecutor(LIMITS, kept=[kept.digest])
    try:
        server = executor.server().pid
        for order in (kept, make_order(source), kept):
            assert {"loaded_by": server} == result_of(executor.run(order, SILENT, Cancel()))["values"]
        other = result_of(executor.run(make_order(source + "# another source\n"), SILENT, Cancel()))
        assert {"loaded_by": other["process"]["pid"]} == other["values"]
    finally:
        executor.close()


@pytest.mark.parametrize("statement", ["raise RuntimeError('not here')", "sys.exit(5)", "1 +"])
def test_a_kept_scenario_that_cannot_be_loaded(statement: str) -> None:
    """A scenario to be kept that cannot be loaded fails each time it is run; all others run."""
    broken, sound = (make_order(write_scenario("pass", top)) for top in (statement, "pass"))
    executor = LocalExecutor(LIMITS, kept=[broken.digest, sound.digest])
    try:
        for order, status in [(broken, JobState.FAILED), (sound, JobState.SUCCEEDED)] * 2:
            assert status == executor.run(order, SILENT, Cancel()).status
    finally:
        executor.close()


def test_a_large_source(executor: LocalExecutor) -> None:
    """A source larger than one read of the socket runs, and so do small ones beside it."""
    sources = [write_scenario("pass", f"text = {'x' * size!r}") for size in (3_000_000, 10, 600_000, 10)]
    reports: list[Report] = []
    threads = [
        threading.Thread(target=lambda s=source: reports.append(executor.run(make_order(s), SILENT, Cancel())))
        for source in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [JobState.SUCCEEDED] * 4 == [report.status for report in reports]


def test_a_job_id_that_runs_already(executor: LocalExecutor) -> None:
    """A second run of a job whose first still runs is refused, and neither harms the other."""
    order = make_order(write_scenario("raise_flag()\nwhile True: lab.checkpoint()"))
    with running(executor, order) as job:
        job.flag()
        with pytest.raises(ExecutorError):
            executor.run(order, SILENT, Cancel())
        assert not job.future.done()
        job.cancel.wish()
        assert JobState.CANCELLED == job.report().status


@pytest.mark.parametrize("count", [2, 3])
def test_a_fork_server_without_descriptors(count: int) -> None:
    """A job for which its fork server has no descriptors is refused, and the next attempt at it runs."""
    executor = LocalExecutor(LIMITS)
    order = make_order(write_scenario("pass"))
    try:
        server = executor.server()
        with few_descriptors(server, count), pytest.raises(ForkFailed, match="Too many open files"):
            executor.run(order, SILENT, Cancel())
        assert JobState.SUCCEEDED == executor.run(order, SILENT, Cancel()).status
        assert server is executor.server()
    finally:
        executor.close()


# An interpreter that is none


_FAKE_TOP = """\
import os, sys
fd = int(sys.argv[-2])
def wait():
    try:
        while os.read(fd, 65536): pass
    except ConnectionResetError: pass
"""


def fake_python(folder: Path, script: str) -> str:
    """Return the path of an executable that runs a script in place of a Python."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(script)}")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("""os.write(fd, b'{"type":"hello","protocol":999}\\n'); wait()""", "protocol 999"),
        ("""os.write(fd, b'{"type":"hello"}\\n'); wait()""", "protocol None"),
        ("os.write(fd, b'Python 2.7.18\\n'); wait()", "Python 2.7.18"),
        ("""os.write(fd, b'{"type":"hello","protocol":2}\n'); wait()""", "come up"),
        ("sys.exit(7)", "exit code 7"),
        ("pass", "exit code 0"),
    ],
    ids=[
        "another protocol",
        "no protocol",
        "no frames",
        "an empty hello",
        "exit code",
        "nothing",
    ],
)
def test_a_fork_server_that_does_not_come_up(tmp_path: Path, script: str, said: str) -> None:
    """An executable that is no fork server is an ExecutorError that says what it did, and is not left running."""
    python = fake_python(tmp_path, f"{_FAKE_TOP}{script}\n")
    executor = LocalExecutor(LIMITS, Interpreters(python))
    try:
        with pytest.raises(ForkServerDied, match="did not come up") as caught:
            executor.start()
        assert said in str(caught.value)
        assert python in str(caught.value)
    finally:
        executor.close()


def test_a_fork_server_that_says_nothing(tmp_path: Path) -> None:
    """An executable that is silent is given up after the startup timeout."""
    limits = replace(LIMITS, startup_timeout_s=0.2)
    silent = fake_python(tmp_path, "import os, sys\nos.read(int(sys.argv[-2]), 1)")
    executor = LocalExecutor(limits, Interpreters(silent))
    with pytest.raises(ForkServerDied, match="timed out"):
        executor.start()
    executor.close()


def test_no_such_executable(tmp_path: Path) -> None:
    """An executable that is not there, or that cannot be executed, is named."""
    (tmp_path / "text").write_text("no program")
    for path in ("/nowhere/python", str(tmp_path / "text"), str(tmp_path)):
        executor = LocalExecutor(LIMITS, Interpreters(path))
        with pytest.raises(ForkServerDied, match=path):
            executor.start()
        executor.close()


# On every interpreter


@pytest.mark.interpreters
def test_on_every_interpreter(every_python: str) -> None:
    """Threads, output, endings, errors and limits are the same on each interpreter that was found."""
    source = write_scenario(
        """
        def work(number):
            print("thread", number)
            if number == 1: 1 // 0
        threads = [lab.Thread(target=work, args=(n,), name=f"w{n}") for n in range(params.threads)]
        for thread in threads:
            thread.start()
            thread.join()
        os.write(1, b"from C\\n")
        lab.at_exit(lambda: {"outcome": "late", "ended": [t.is_alive() for t in threads]})
        lab.Thread(target=time.sleep, args=(0.01,), name="rest").start()
        atexit.register(print, "bye")
        atexit.register(lambda: 1 // 0)
        return {"outcome": "done", "version": list(sys.version_info[:2])}
        """,
        "import atexit",
    )
    executor = LocalExecutor(LIMITS, Interpreters(every_python))
    try:
        report = executor.run(make_order(source), SILENT, Cancel())
        raised = executor.run(make_order(write_scenario("raise ValueError('no')")), SILENT, Cancel())
        stuck = executor.run(
            make_order(write_scenario("lab.Thread(target=time.sleep, args=(60,)).start()"), timeout_s=0.2),
            SILENT,
            Cancel(),
        )
    finally:
        executor.close()
    assert (JobState.SUCCEEDED, None) == (report.status, report.error)
    result = result_of(report)
    assert report.python is not None
    assert report.python["version"].startswith("{}.{}.".format(*result["values"]["version"]))
    assert ("late", [False, False]) == (result["outcome"], result["values"]["ended"])
    assert ["w0", "w1", "rest"] == [row["name"] for row in result["threads"]]
    assert all(row["ended_s"] is not None for row in result["threads"])
    assert {"before": 1, "peak": 2, "after": 2} == result["active_threads"]
    printed = lines(report)
    assert {("w0", "thread 0"), ("w1", "thread 1"), (None, "from C"), ("MainThread", "bye")} <= set(printed)
    assert "Exception in thread w1:" in [line for thread, line in printed if thread == "w1"]
    assert not [line for _, line in printed if "excepthook" in line]
    (warning,) = result["warnings"]
    assert "w1 ended with ZeroDivisionError" in warning
    assert (JobState.FAILED, ("ValueError", "no")) == (raised.status, failure_of(raised))
    assert (JobState.TIMED_OUT, "stuck") == (stuck.status, result_of(stuck)["outcome"])
