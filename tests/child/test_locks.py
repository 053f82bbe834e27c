"""Locks with a name: they behave as threading's, and what waits for what can be seen in them."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from service.child import autopsy, wire
from service.child.lab import Lab
from service.child.locks import Watch, WatchedLock, WatchedRLock, ring
from service.child.recorder import Recorder
from tests.support import wait_until

KINDS = [WatchedLock, WatchedRLock]


@pytest.fixture
def watch() -> Watch:
    """A watch over no locks yet."""
    return Watch()


@contextmanager
def thread(target: Callable[[], object], name: str = "other") -> Iterator[threading.Thread]:
    """Run something beside the test; it must have ended soon after the block."""
    made = threading.Thread(target=target, name=name)
    made.start()
    try:
        yield made
    finally:
        made.join(20)
        assert not made.is_alive()


def elsewhere(call: Callable[[], Any]) -> Any:
    """Call something on another thread and return what it returned, or the exception that it raised."""
    answers: list[Any] = []

    def answer() -> None:
        try:
            answers.append(call())
        except Exception as exc:  # noqa: BLE001  it is the answer
            answers.append(exc)

    with thread(answer):
        pass
    return answers[0]


@contextmanager
def untied(watch: Watch) -> Iterator[None]:
    """At the end of the block, release every lock that is waited for until nobody waits: a test's knot comes undone."""

    def let_go() -> bool:
        for wait in list(watch.waits.values()):
            with suppress(RuntimeError):  # whoever waited for it has it already
                wait.lock.release()
        return not watch.waits

    try:
        yield
    finally:
        wait_until(let_go)


# They are locks


def test_without_a_name_a_lock_is_the_interpreters_own() -> None:
    """A lab's locks are threading's, as long as nobody gives them a name."""
    lab = Lab(Recorder(1000), 60.0)
    assert type(threading.Lock()) is type(lab.Lock())
    assert type(threading.RLock()) is type(lab.RLock())
    assert [] == lab.watch.locks
    assert [(WatchedLock, "a"), (WatchedRLock, "b")] == [
        (type(lock), getattr(lock, "name", None)) for lock in (lab.Lock("a"), lab.RLock("b"))
    ]
    assert ["a", "b"] == [lock.name for lock in lab.watch.locks]


@pytest.mark.parametrize("kind", KINDS)
def test_it_locks(watch: Watch, kind: type[WatchedLock]) -> None:
    """One thread at a time has it, by `with` or by `acquire`, and it says who."""
    lock = kind(watch, "a")
    assert not lock.locked()
    with lock as got:
        assert got is True
        assert lock.locked()
        assert lock.holder is threading.current_thread()
        assert elsewhere(lambda: lock.acquire(blocking=False)) is False
        assert elsewhere(lambda: lock.acquire(timeout=0.01)) is False
    assert (False, None) == (lock.locked(), lock.holder)
    assert lock.acquire(timeout=1)
    lock.release()
    assert {} == watch.waits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "error"), [((False, 1), ValueError), ((True, -2), ValueError), ((True, 1e300), OverflowError)]
)
def test_it_refuses_what_threadings_refuse(
    watch: Watch, kind: type[WatchedLock], arguments: tuple[bool, float], error: type[Exception]
) -> None:
    """Arguments that make no sense raise what they raise at the lock under it, and nobody holds it then."""
    lock = kind(watch, "a")
    with pytest.raises(error):
        lock.acquire(*arguments)
    assert (False, None) == (lock.locked(), lock.holder)


@pytest.mark.parametrize("kind", KINDS)
def test_release_of_what_is_not_held(watch: Watch, kind: type[WatchedLock]) -> None:
    """A lock that nobody holds cannot be released."""
    with pytest.raises(RuntimeError):
        kind(watch, "a").release()


def test_another_thread_may_release_a_lock(watch: Watch) -> None:
    """A plain lock may be released by a thread that does not hold it, and is free and without a holder then."""
    lock = WatchedLock(watch, "a")
    lock.acquire()
    assert elsewhere(lock.release) is None
    assert (False, None) == (lock.locked(), lock.holder)


def test_another_thread_may_not_release_an_rlock(watch: Watch) -> None:
    """A lock with an owner is released by its owner only, and the attempt changes nothing."""
    lock = WatchedRLock(watch, "a")
    lock.acquire()
    assert isinstance(elsewhere(lock.release), RuntimeError)
    assert lock.holder is threading.current_thread()
    lock.release()


def test_an_rlock_is_free_when_released_as_often_as_taken(watch: Watch) -> None:
    """Its holder takes it again without waiting, and it stays his until the last release."""
    lock = WatchedRLock(watch, "a")
    with lock, lock:
        lock.acquire()
        lock.release()
        assert elsewhere(lambda: lock.acquire(blocking=False)) is False
    assert (False, None) == (lock.locked(), lock.holder)
    assert elsewhere(lambda: lock.acquire(blocking=False) and lock.release()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_a_count_exact(watch: Watch, kind: type[WatchedLock]) -> None:
    """Threads that add under it, with a pause between read and write, lose nothing, and leave no trace of waiting."""
    lock, total = kind(watch, "a"), [0]

    def add() -> None:
        for _ in range(50):
            with lock:
                before = total[0]
                time.sleep(0)
                total[0] = before + 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert ([200], {}, None) == (total, watch.waits, lock.holder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_over_it(watch: Watch, kind: type[WatchedLock]) -> None:
    """A `threading.Condition` takes it as its lock, and holds it again, as deep as before, after a wait."""
    lock = kind(watch, "a")
    condition = threading.Condition(lock)  # type: ignore[arg-type]
    ready: list[bool] = []

    def tell() -> None:
        with condition:
            ready.append(True)
            condition.notify()

    with condition:
        if kind is WatchedRLock:
            lock.acquire()
        with thread(tell):
            assert condition.wait_for(lambda: ready, timeout=20)
            assert lock.holder is threading.current_thread()
            assert elsewhere(lambda: lock.acquire(blocking=False)) is False
        if kind is WatchedRLock:
            lock.release()
    assert (False, None) == (lock.locked(), lock.holder)


def test_a_raw_thread(watch: Watch) -> None:
    """A thread that `threading` does not know holds and waits like any other, is nobody's name, and is not counted."""
    lock = WatchedLock(watch, "a")
    counts: list[int] = []
    before = threading.active_count()

    def take() -> None:
        with lock:
            counts.append(threading.active_count())

    with lock:
        _thread.start_new_thread(take, ())
        wait_until(lambda: watch.waits)
        assert [(None, lock)] == [(wait.thread, wait.lock) for wait in watch.waits.values()]
    wait_until(lambda: counts)
    assert [before] == counts


# What can be seen in them


def test_who_waits_is_seen(watch: Watch) -> None:
    """A thread that waits without a time limit is known to wait, for which lock, and for whom; that is no knot."""
    lock = WatchedLock(watch, "a")
    lock.acquire()
    with thread(lambda: lock.acquire() and lock.release()) as other:
        wait_until(lambda: watch.waits)
        (wait,) = watch.waits.values()
        assert (other, lock, threading.current_thread()) == (wait.thread, wait.lock, lock.holder)
        assert {} == watch.knots()
        lock.release()
    assert {} == watch.waits


def test_who_waits_with_a_time_limit_is_not_stuck(watch: Watch) -> None:
    """Threads that wait for each other, but not for ever, make no knot."""
    locks = [WatchedLock(watch, name) for name in "ab"]
    both = threading.Barrier(2)
    seen: list[Any] = []

    def take(first: WatchedLock, second: WatchedLock) -> None:
        with first:
            both.wait()
            assert not second.acquire(timeout=0.1)
            both.wait()

    with thread(lambda: take(*locks)), thread(lambda: take(*locks[::-1])) as last:
        while last.is_alive():
            seen.append((dict(watch.waits), watch.knots()))
            time.sleep(0.001)
    assert seen
    assert all(look == ({}, {}) for look in seen)


def test_a_knot_of_two(watch: Watch) -> None:
    """Two threads that wait for each other are a knot, with whoever waits for one of them; two looks are alike."""
    a, b, c = (WatchedLock(watch, name) for name in "abc")
    both = threading.Barrier(2)

    def take(first: WatchedLock, second: WatchedLock) -> None:
        first.acquire()
        both.wait()
        second.acquire()

    with (
        thread(lambda: take(a, b), "one") as one,
        thread(lambda: take(b, a), "two") as two,
        untied(watch),
    ):
        wait_until(lambda: len(watch.waits) == 2)
        with thread(lambda: c.acquire() and a.acquire(), "three") as three, untied(watch):
            wait_until(lambda: len(watch.waits) == 3)
            knots = watch.knots()
            assert {one, two, three} == {link.wait.thread for link in knots.values()}
            assert knots == watch.knots()
            assert {(one, "b", two), (two, "a", one)} == {
                (link.wait.thread, link.wait.lock.name, link.holder) for link in ring(knots)
            }
            assert not elsewhere(lambda: autopsy.nobody_runs(knots))  # the test's own thread runs, and will untie it
    assert {} == watch.knots()


def test_a_knot_of_one(watch: Watch) -> None:
    """A thread that takes a plain lock which it holds waits for itself."""
    lock = WatchedLock(watch, "a")
    with thread(lambda: lock.acquire() and lock.acquire(), "self") as caught, untied(watch):
        wait_until(lambda: watch.waits)
        (link,) = ring(watch.knots())
        assert (caught, caught) == (link.wait.thread, link.holder)


def test_a_holder_that_has_ended(watch: Watch) -> None:
    """Who waits for a lock whose holder has ended waits for ever, though a new thread may have that one's ident."""
    lock = WatchedLock(watch, "a")
    assert elsewhere(lock.acquire) is True
    gone = lock.holder
    with thread(lock.acquire) as waiting, untied(watch):
        wait_until(watch.knots)
        (link,) = ring(watch.knots())
        assert (waiting, gone) == (link.wait.thread, link.holder)


def test_a_wait_that_begins_again_is_another(watch: Watch) -> None:
    """Two looks are not alike if a thread came out of its wait between them, though it waits for the same again."""
    lock = WatchedLock(watch, "a")
    assert elsewhere(lock.acquire) is True
    gone = lock.holder

    def take_twice() -> None:
        lock.acquire()
        lock.holder = gone
        lock.acquire()

    with thread(take_twice), untied(watch):
        wait_until(watch.knots)
        before = watch.knots()
        lock._real.release()
        wait_until(lambda: watch.waits and watch.knots() != before)
        after = watch.knots()
        assert [(gone, lock)] == [(link.holder, link.wait.lock) for link in after.values()]
        assert [*before] == [*after]


def test_an_autopsy_is_a_frame(watch: Watch) -> None:
    """Every thread but the one that asks is told of, with its stack, its locks, and what it waits for."""
    lock, other = WatchedLock(watch, "a"), WatchedRLock(watch, "b")

    def wait_for_it() -> None:
        with other, lock:
            pass

    told: list[bytes] = []
    lock.acquire()
    with thread(wait_for_it, "waits"), untied(watch):
        wait_until(lambda: watch.waits)
        elsewhere(lambda: told.append(autopsy.make(watch, {}, False)))
    frame = wire.decode(told[0].rstrip(b"\n"))
    assert ("autopsy", False, None) == (frame["type"], frame["deadlock"], frame["cycle"])
    rows = {row["name"]: row for row in frame["threads"]}
    main, waits = rows[threading.current_thread().name], rows["waits"]
    assert (True, ["a"], None) == (main["main"], main["holds"], main["waits_for"])
    assert (False, False, ["b"], "a") == (waits["main"], waits["daemon"], waits["holds"], waits["waits_for"])
    assert "wait_for_it" == waits["stack"][-1]["function"]
    assert __file__.endswith(waits["stack"][-1]["file"])


def test_an_autopsy_of_many_threads(watch: Watch) -> None:
    """Of many threads the first are told of, and of a deep stack the innermost calls; what is left out is counted."""
    end = threading.Event()

    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        else:
            end.wait()

    threads = [threading.Thread(target=deep, args=(100,)) for _ in range(wire.MOST_THREADS + 5)]
    for each in threads:
        each.start()
    try:
        told: list[bytes] = []
        elsewhere(lambda: told.append(autopsy.make(watch, {}, False)))
    finally:
        end.set()
        for each in threads:
            each.join()
    frame = wire.decode(told[0].rstrip(b"\n"))
    assert wire.MOST_THREADS == len(frame["threads"])
    assert frame["threads_left_out"] >= 6
    assert True is frame["threads"][0]["main"]
    assert wire.MOST_FRAMES >= max(len(row["stack"]) for row in frame["threads"]) > wire.MOST_FRAMES - 5


def test_an_autopsy_that_would_be_too_long(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all of it would not fit into a frame, the threads are counted and left out."""
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 50)
    frame = wire.decode(autopsy.make(watch, {}, False).rstrip(b"\n"))
    assert [] == frame["threads"]
