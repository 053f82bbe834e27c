"""What is told of a job that did not end by itself, and how a deadlock is seen and ended."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from service.child.wire import Frame
from service.events import Trace
from service.executors.base import Cancel, Kept
from service.executors.local import LocalExecutor
from service.executors.stacks import Dump, Stack
from service.executors.transcript import Ending, Transcript
from service.jobs import Autopsy, JobState, Report
from tests.executors.helpers import LIMITS, make_order, result_of, running, write_scenario
from tests.executors.test_transcript import (
    AUTOPSY,
    BEGIN,
    BYE,
    DEADLOCK,
    ERROR,
    KILLED,
    ONE_TWO,
    READY,
    RESULT,
    STARTED,
    STOPPED,
    STUCK,
    play,
    process,
)
from tests.support import SILENT

Run = Callable[..., Report]

DEADLINE = Ending(KILLED, stopped=JobState.TIMED_OUT, killed=True)
ENDED = [{"thread": "one", "holds": None, "waits_for": "a"}, {"thread": "two", "holds": "a", "waits_for": None}]

# Two threads that take two locks in two orders; `met` makes sure that each has its first one.
TWO_ORDERS = """
    met = threading.Barrier(2)
    def take(first, second):
        with first:
            met.wait()
            with second:
                pass
    a, b = lab.Lock("a"), lab.Lock("b")
    threads = [lab.Thread(target=take, args=pair, name=name, daemon=True) for name, pair in
               (("one", (a, b)), ("two", (b, a)))]
    for thread in threads: thread.start()
"""
JOINED = TWO_ORDERS + "    for thread in threads: thread.join()\n"


def autopsy_of(report: Report) -> Autopsy:
    """The autopsy of a job that has one."""
    autopsy = result_of(report)["autopsy"]
    assert autopsy is not None, report
    return autopsy


def rows(report: Report) -> dict[str | None, Any]:
    """The threads of an autopsy, by name."""
    return {row["name"]: row for row in autopsy_of(report)["threads"]}


def code(report: Report, name: str) -> list[str | None]:
    """The lines at which a thread stood, the innermost last."""
    return [place["code"] for place in rows(report)[name]["stack"]]


def waits(report: Report) -> set[tuple[str, str | None, str | None]]:
    """The cycle, wherever it was entered."""
    return {(link["thread"], link["holds"], link["waits_for"]) for link in autopsy_of(report)["cycle"] or ()}


# What a child says, and the report on it


def told(*frames: Frame, ending: Ending = DEADLINE) -> tuple[str, str | None, str | None, str | None]:
    """Status, outcome, type of the error and its message."""
    report = play([READY, *frames], ending)
    error = report.error
    return report.status, result_of(report)["outcome"], error and error["type"], error and error["message"]


CHAIN = "one holds a and waits for b, which two holds; two holds b and waits for a, which one holds."


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (DEADLOCK, f"{CHAIN} No other thread could run on."),
        (AUTOPSY, f"{CHAIN} Other threads could still run when its time was up."),
        (
            {**DEADLOCK, "cycle": [{"thread": "one", "holds": "a", "waits_for": "a"}]},
            "one holds a and waits for a, which it holds itself. No other thread could run on.",
        ),
        (
            {**DEADLOCK, "cycle": ENDED},
            "one waits for a, which two held when it ended. No other thread could run on.",
        ),
    ],
    ids=["two", "beside others", "itself", "an ended holder"],
)
def test_a_deadlock_in_words(frame: Frame, message: str) -> None:
    """The error of a job that could never end says who holds what and waits for what, and whether others ran."""
    assert ("timed_out", "stuck", "Deadlock", message) == told(STARTED, frame)


def test_a_long_cycle_in_words() -> None:
    """Of a cycle of many threads the sentence holds the first and their number; the answer holds them all."""
    links = [{"thread": f"t{n}", "holds": f"l{n}", "waits_for": f"l{(n + 1) % 500}"} for n in range(500)]
    report = play([READY, STARTED, {**DEADLOCK, "cycle": links}], DEADLINE)
    assert report.error is not None
    assert len(report.error["message"]) < 1000
    assert "500 threads" in report.error["message"]
    assert 500 == len(autopsy_of(report)["cycle"] or ())


def test_an_autopsy_is_told() -> None:
    """What the child said is in the result, but for what only the executor needs."""
    autopsy = autopsy_of(play([READY, STARTED, AUTOPSY], DEADLINE))
    assert {"by": "child", "threads": AUTOPSY["threads"], "threads_left_out": 2, "cycle": ONE_TWO} == autopsy


@pytest.mark.parametrize(
    ("frames", "ending", "expected"),
    [
        pytest.param([AUTOPSY], Ending(KILLED, stopped=JobState.CANCELLED, killed=True), "cancelled", id="cancelled"),
        pytest.param([AUTOPSY, STOPPED, BYE], Ending(process(), stopped=JobState.CANCELLED), "cancelled", id="heeded"),
        pytest.param([DEADLOCK], Ending(KILLED, stopped=JobState.CANCELLED, killed=True), "cancelled", id="both"),
        pytest.param([RESULT, DEADLOCK], DEADLINE, "timed_out", id="after run"),
        pytest.param([ERROR, DEADLOCK], DEADLINE, "failed", id="raised, and threads deadlocked"),
    ],
)
def test_the_status_of_a_job_with_an_autopsy(frames: list[Frame], ending: Ending, expected: str) -> None:
    """An autopsy does not change how a job that was ended is told, and is told whatever the state."""
    report = play([READY, STARTED, *frames], ending)
    assert expected == report.status
    assert autopsy_of(report)
    if expected == "cancelled":
        assert report.error is None


@pytest.mark.parametrize(
    ("frames", "ending"),
    [
        ([AUTOPSY, RESULT, BYE], Ending(process(), stopped=JobState.CANCELLED)),
        ([AUTOPSY, RESULT, BYE], Ending(process())),
        ([AUTOPSY], Ending(process(None, "SIGSEGV"))),
        ([], DEADLINE),
    ],
)
def test_no_autopsy_of_a_job_that_ended_by_itself(frames: list[Frame], ending: Ending) -> None:
    """A job that came to its end, or died, has none, whatever its child said; nor has one that said nothing."""
    assert result_of(play([READY, STARTED, *frames], ending))["autopsy"] is None


@pytest.mark.parametrize(
    ("frames", "grade", "said"),
    [
        pytest.param([STUCK, DEADLOCK], "forbidden", "should have ended", id="deadlock"),
        pytest.param([STUCK, AUTOPSY], "forbidden", "should have ended", id="some wait for each other"),
        pytest.param([STUCK, {**AUTOPSY, "cycle": None}], "interesting", "longer timeout_s", id="none does"),
        pytest.param([STUCK], "interesting", "longer timeout_s", id="no autopsy"),
        pytest.param([STARTED, DEADLOCK], "interesting", "none of them could", id="deadlock, not judged"),
        pytest.param([STARTED, AUTOPSY], "interesting", "some of its threads waited", id="some wait, not judged"),
        pytest.param([STARTED], "interesting", "longer timeout_s", id="nothing told"),
    ],
)
def test_stuck_is_forbidden_only_where_threads_were_seen_to_be(frames: list[Frame], grade: str, said: str) -> None:
    """A deadline that a client chose too soon is nothing forbidden; a deadlock where none may be is."""
    result = result_of(play([READY, *frames], DEADLINE))
    assert ("stuck", grade) == (result["outcome"], result["grade"])
    assert said in (result["meaning"] or "")


BEGUN: Frame = {
    "type": "events",
    "events": [[n, f"t{n}", n, "start", {**BEGIN, "ident": n, "active_threads": n + 1}] for n in range(1, 5)],
}


@pytest.mark.parametrize(
    ("told", "whole", "trace", "expected"),
    [
        pytest.param([0, 1, 2, 3], True, "threads", 7, id="whole: as many as it told of"),
        pytest.param([0, 1, 2], False, "threads", 2, id="cut off: those that had begun"),
        pytest.param([3, 4], False, "threads", 3, id="cut off: the main thread, too"),
        pytest.param([0, 1], False, "off", None, id="cut off, and nothing recorded"),
    ],
)
def test_how_many_threads_the_fault_handler_left_out(
    told: list[int], whole: bool, trace: Trace, expected: int | None
) -> None:
    """What the fault handler did not come to is counted by the starts of threads, if those were recorded."""
    dump = Dump([Stack(ident, ident == 0, []) for ident in told], more=7, whole=whole)
    transcript = Transcript(Kept(output_bytes=1_000, events=1_000), trace)
    for frame in [READY, STARTED, *([BEGUN] if trace == "threads" else [])]:
        transcript.add(frame)
    autopsy = autopsy_of(transcript.report(replace(DEADLINE, dump=dump), None, None))
    assert ("fault_handler", expected) == (autopsy["by"], autopsy["threads_left_out"])


# Real children


@pytest.fixture(scope="module")
def patient() -> Iterator[LocalExecutor]:
    """An executor that gives a busy child time for its autopsy, on a busy machine, too."""
    made = LocalExecutor(replace(LIMITS, cancel_grace_s=2.0))
    made.start()
    yield made
    made.close()


@pytest.mark.interpreters
@pytest.mark.usefixtures("run_scenario")  # which lets `executors` keep its fork servers
def test_a_deadlock_is_ended_when_it_is_there(executors: Callable[..., LocalExecutor], every_python: str) -> None:
    """On every interpreter a job whose threads wait for each other is ended long before its deadline, and told."""
    begun = time.monotonic()
    report = executors(every_python).run(make_order(write_scenario(JOINED), timeout_s=60.0), SILENT, Cancel())
    assert time.monotonic() - begun < 20
    assert (JobState.TIMED_OUT, "Deadlock") == (report.status, (report.error or {}).get("type"))
    assert "stuck" == result_of(report)["outcome"]
    assert "SIGKILL" == result_of(report)["process"]["signal"]
    assert {("one", "a", "b"), ("two", "b", "a")} == waits(report)
    assert {("MainThread", True, "", None), ("one", False, "a", "b"), ("two", False, "b", "a")} == {
        (row["name"], row["main"], "".join(row["holds"]), row["waits_for"]) for row in rows(report).values()
    }
    assert ["with second:"] == code(report, "one") == code(report, "two")
    assert "for thread in threads: thread.join()" == code(report, "MainThread")[0]
    assert "join" in [place["function"] for place in rows(report)["MainThread"]["stack"]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            """
            lock = lab.Lock("a")
            with lock, lock: pass
            """,
            {("MainThread", "a", "a")},
            id="the main thread waits for itself",
        ),
        pytest.param(
            """
            lock = lab.Lock("a")
            holder = lab.Thread(target=lock.acquire, name="gone")
            holder.start()
            holder.join()
            lab.Thread(target=lock.acquire, name="one").start()
            """,
            {("one", None, "a"), ("gone", "a", None)},
            id="the holder has ended, and run has returned",
        ),
        pytest.param(
            """
            lock, other = lab.Lock("a"), lab.Lock("b")
            def wait():
                with other: lock.acquire()
            one = lab.Thread(target=lambda: lock.acquire() and lock.acquire(), name="one")
            one.start()
            while not lock.locked(): time.sleep(0.001)
            waiting = lab.Thread(target=wait)
            waiting.start()
            threading.Thread(target=waiting.join).start()
            while not other.locked(): time.sleep(0.001)
            other.acquire()
            """,
            {("one", "a", "a")},
            id="others wait for one of them, in several ways",
        ),
    ],
)
def test_other_deadlocks(run: Run, body: str, expected: set[Any]) -> None:
    """Whatever closes the ring of waiting, and wherever the main thread waits, the job is ended and told."""
    report = run(body, timeout_s=60.0)
    assert (JobState.TIMED_OUT, "Deadlock") == (report.status, (report.error or {}).get("type"))
    assert expected == waits(report)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("time.sleep(60)", id="the main thread sleeps"),
        pytest.param("threads[0].join(60)", id="it joins with a time limit"),
        pytest.param("threading.Event().wait()", id="it waits for an event"),
        pytest.param("lab.Thread(target=time.sleep, args=(60,)).start()\nthreads[0].join()", id="another sleeps"),
        pytest.param("_thread.start_new_thread(time.sleep, (60,))\nthreads[0].join()", id="a raw thread sleeps"),
    ],
)
def test_a_cycle_beside_a_thread_that_can_run(run: Run, rest: str) -> None:
    """While any thread could still run on, two that wait for each other are told at the deadline, not before."""
    body = f"{textwrap.dedent(TWO_ORDERS)}\n{rest}"
    report = run(body, "import _thread", timeout_s=0.5)
    assert JobState.TIMED_OUT == report.status
    assert report.error is not None
    assert "Deadlock" == report.error["type"]
    assert "Other threads could still run" in report.error["message"]
    assert {("one", "a", "b"), ("two", "b", "a")} == waits(report)
    assert (result_of(report)["process"]["lived_s"] or 0) >= 0.5


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            """
            def take(first, second):
                with first:
                    met.wait()
                    while not second.acquire(timeout=0.15): first.release(); time.sleep(0.01); first.acquire()
                    second.release()
            met = threading.Barrier(2)
            a, b = lab.Lock("a"), lab.Lock("b")
            one, two = lab.Thread(target=take, args=(a, b)), lab.Thread(target=take, args=(b, a))
            one.start(); two.start(); one.join(); two.join()
            """,
            id="with time limits",
        ),
        pytest.param(
            """
            lock = lab.Lock("a")
            waiting = lab.Thread(target=lambda: lock.acquire() and lock.acquire())
            waiting.start()
            time.sleep(0.2)
            lock.release()
            waiting.join()
            """,
            id="another thread releases the lock",
        ),
        pytest.param(
            """
            lock = lab.Lock("a")
            def release():
                time.sleep(0.2)
                lock.release()
            waiting = lab.Thread(target=lambda: lock.acquire() and lock.acquire())
            waiting.start()
            lab.Thread(target=release, daemon=True).start()
            waiting.join()
            """,
            id="another thread releases the lock while the main thread joins",
        ),
        pytest.param(
            """
            lock = lab.Lock("a")
            lab.Thread(target=lambda: lock.acquire() and lock.acquire(), daemon=True).start()
            time.sleep(0.2)
            """,
            id="a daemon thread that nobody waits for",
        ),
        pytest.param(
            """
            condition = threading.Condition(lab.RLock("a"))
            def tell():
                with condition: condition.notify()
            with condition:
                lab.Thread(target=tell).start()
                condition.wait()
            """,
            id="a condition",
        ),
    ],
)
def test_no_deadlock(run: Run, body: str) -> None:
    """Threads that can get out of their waiting, in whatever way, come to their end, and nobody says a word."""
    report = run(body)
    assert (JobState.SUCCEEDED, None, None) == (report.status, report.error, result_of(report)["autopsy"])


def test_many_threads_at_few_locks(run: Run) -> None:
    """However often threads wait for each other's locks in one order, none of the looks at them finds a deadlock."""
    report = run("""
        locks = [lab.Lock(str(number)) for number in range(3)]
        def take():
            for _ in range(300):
                with locks[0], locks[1], locks[2]: time.sleep(0)
        sys.setswitchinterval(1e-5)
        threads = [lab.Thread(target=take) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """)
    assert (JobState.SUCCEEDED, None) == (report.status, report.error)


SLEEPERS = """
    def nap(): time.sleep(60)
    for number in range(params.threads): lab.Thread(target=nap, name=f"sleeper-{number}").start()
    raise_flag()
    nap()
"""
BUSY = """
    def spin():
        number = 0
        while True: number += 1
    for number in range(params.threads): lab.Thread(target=spin, name=f"busy-{number}", daemon=True).start()
    raise_flag()
    spin()
"""


@pytest.mark.interpreters
@pytest.mark.usefixtures("run_scenario")  # which lets `executors` keep its fork servers
def test_an_autopsy_at_the_deadline(executors: Callable[..., LocalExecutor], every_python: str) -> None:
    """On every interpreter a job that sleeps past its deadline is told with where each thread slept."""
    source = write_scenario(SLEEPERS.replace("raise_flag()", "pass"))
    report = executors(every_python).run(make_order(source, timeout_s=0.2), SILENT, Cancel())
    assert (JobState.TIMED_OUT, None) == (report.status, report.error)
    assert (0, None) == (autopsy_of(report)["threads_left_out"], autopsy_of(report)["cycle"])
    assert ["MainThread", "sleeper-0", "sleeper-1"] == list(rows(report))
    assert ["def nap(): time.sleep(60)"] == code(report, "sleeper-0") == code(report, "sleeper-1")
    assert ["nap()", "def nap(): time.sleep(60)"] == code(report, "MainThread")
    assert [True, False, False] == [row["main"] for row in rows(report).values()]


@pytest.mark.parametrize(("body", "threads"), [(SLEEPERS, 100), (BUSY, 3)], ids=["asleep", "busy"])
def test_an_autopsy_at_a_cancel(patient: LocalExecutor, body: str, threads: int) -> None:
    """A cancelled job is told with where its threads were, asleep or busy; of very many with where the first were."""
    with running(patient, make_order(write_scenario(body), threads=threads)) as job:
        job.flag()
        job.cancel.wish()
        report = job.report()
    assert (JobState.CANCELLED, None) == (report.status, report.error)
    autopsy = autopsy_of(report)
    assert threads + 1 == len(autopsy["threads"]) + autopsy["threads_left_out"]
    assert min(64, threads + 1) == len(autopsy["threads"])
    assert {"nap", "spin"} & {place["function"] for place in autopsy["threads"][-1]["stack"]}


def test_an_autopsy_is_made_before_the_job_is_asked_to_end(patient: LocalExecutor) -> None:
    """A scenario that heeds its cancel is told with where it was before it did."""
    body = "raise_flag()\nwhile True: lab.checkpoint(); time.sleep(0.001)"
    with running(patient, make_order(write_scenario(body))) as job:
        job.flag()
        job.cancel.wish()
        report = job.report()
    assert (JobState.CANCELLED, 0) == (report.status, result_of(report)["process"]["exit_code"])
    assert "while True: lab.checkpoint(); time.sleep(0.001)" in code(report, "MainThread")


def test_a_scenario_that_bends_threading(run: Run) -> None:
    """A scenario that breaks what its child needs for an autopsy is told of by the fault handler, and is ended."""
    report = run("sys._current_frames = None\nwhile True: time.sleep(60)", timeout_s=0.2)
    assert (JobState.TIMED_OUT, "stuck") == (report.status, result_of(report)["outcome"])
    assert ("fault_handler", ["MainThread"]) == (autopsy_of(report)["by"], list(rows(report)))
    assert ["while True: time.sleep(60)"] == code(report, "MainThread")


DEAF = """
    begun = []
    def nap():
        begun.append(1)
        time.sleep(60)
    for number in range(params.threads): lab.Thread(target=nap, name=f"sleeper-{number}", daemon=True).start()
    while len(begun) < params.threads: time.sleep(0.01)
    time.sleep(0.5)  # for their starts to be told: afterwards nobody gets the GIL any more
    raise_flag()
    re.match("(a*)*b", "a" * 64)
"""


@pytest.mark.interpreters
@pytest.mark.parametrize("threads", [90, 120])
@pytest.mark.usefixtures("run_scenario")  # which lets `executors` keep its fork servers
def test_many_threads_told_by_the_fault_handler(
    executors: Callable[..., LocalExecutor], every_python: str, threads: int
) -> None:
    """However many threads there are the main one is told with its line, and each of them is told or counted."""
    order = make_order(write_scenario(DEAF, "import re"), threads=threads)
    with running(executors(every_python), order) as job:
        job.flag()
        job.cancel.wish()
        report = job.report()
    autopsy = autopsy_of(report)
    assert ("fault_handler", "MainThread") == (autopsy["by"], autopsy["threads"][0]["name"])
    assert 're.match("(a*)*b", "a" * 64)' in code(report, "MainThread")
    assert (64, threads + 1 - 64) == (len(autopsy["threads"]), autopsy["threads_left_out"])


def test_a_child_that_is_stopped(run: Run) -> None:
    """A child that does not run is woken to tell where it was, as often as it stops again, and then ended."""
    for _ in range(8):
        report = run("while True: os.kill(os.getpid(), signal.SIGSTOP)", "import signal", timeout_s=0.1)
        assert (JobState.TIMED_OUT, "SIGKILL") == (report.status, result_of(report)["process"]["signal"])
        assert ["while True: os.kill(os.getpid(), signal.SIGSTOP)"] == code(report, "MainThread")


JUDGED = """
def outcomes(params):
    return {"done": ("acceptable", "It is done."), "stuck": ("forbidden", "It should have ended.")}
"""


def test_a_real_scenario_judges_being_stuck(run: Run) -> None:
    """What a scenario's `outcomes` say of `stuck` is what its job says, at a deadline as in a deadlock."""
    judged = JUDGED.replace("forbidden", "acceptable")
    for body, top, timeout_s in (("time.sleep(60)", judged, 0.2), (textwrap.dedent(JOINED), JUDGED, 60.0)):
        result = result_of(run(body, top, timeout_s=timeout_s))
        assert ("stuck", "It should have ended.") == (result["outcome"], result["meaning"])
        assert ("acceptable" if top is judged else "forbidden") == result["grade"]


def test_a_deadline_that_came_too_soon_is_not_forbidden(run: Run) -> None:
    """Where being stuck is forbidden, a job whose time was up without a deadlock is not judged by that."""
    report = run("time.sleep(60)", JUDGED, timeout_s=0.2)
    result = result_of(report)
    assert ("stuck", "interesting", None) == (result["outcome"], result["grade"], report.error)
    assert "give it a longer timeout_s" in (result["meaning"] or "")


def test_stuck_cannot_be_returned(run: Run) -> None:
    """`stuck` is for what does not end: a `run` that returns it has failed, though its `outcomes` hold it."""
    report = run("return {'outcome': 'stuck'}", JUDGED)
    assert (JobState.FAILED, "TypeError") == (report.status, (report.error or {}).get("type"))


@pytest.mark.parametrize("stuck", ["'forbidden'", "('forbidden',)", "('forbidden', 'a', 'b')", "5"])
def test_a_judgement_that_is_none(run: Run, stuck: str) -> None:
    """A scenario whose `stuck` is no grade and sentence fails before it begins."""
    report = run("pass", f"def outcomes(params): return {{'done': ('acceptable', 'x'), 'stuck': {stuck}}}")
    assert (JobState.FAILED, None) == (report.status, report.result)


LIAR = """
    frame = json.dumps({frame!r}).encode()
    os.write(3, frame + b"\\n")
    {then}
"""


@pytest.mark.parametrize("then", ["time.sleep(60)", "os._exit(0)", "while True: pass"])
def test_a_child_that_only_says_that_it_is_stuck(run: Run, then: str) -> None:
    """Who says that it is deadlocked is believed, and ended at once."""
    begun = time.monotonic()
    report = run(LIAR.format(frame=DEADLOCK, then=then), "import json", timeout_s=60.0)
    assert (JobState.TIMED_OUT, "Deadlock") == (report.status, (report.error or {}).get("type"))
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    "frame",
    [{**DEADLOCK, "cycle": None}, {**AUTOPSY, "threads": None}, {**AUTOPSY, "cycle": ONE_TWO[:1]}],
    ids=["no cycle", "no threads", "half a cycle"],
)
def test_a_child_whose_autopsy_is_none(run: Run, frame: Frame) -> None:
    """An autopsy that is none breaks the protocol, as any other frame does."""
    report = run(LIAR.format(frame=frame, then="time.sleep(60)"), "import json", timeout_s=60.0)
    assert (JobState.LOST, "ChildBroken") == (report.status, (report.error or {}).get("type"))
