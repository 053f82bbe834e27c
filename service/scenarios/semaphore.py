"""Semaphore: a few slots for many workers, and what one release too many does to them.

A semaphore is a number and a queue of sleepers: `acquire` takes one off, or sleeps while the number is 0; `release`
adds one and wakes a sleeper. It does not know who holds what. So a release by somebody who holds nothing adds a slot
that does not exist, and from then on one more gets in. `BoundedSemaphore` refuses the release with ValueError when the
number would be higher than at the start. It can tell only then: while others are in, the number is low, one release too
many goes unnoticed, and the error comes later, at a release that was right, mostly in a thread that did nothing wrong.

Run it:
    Two slots for eight workers:
        {"scenario": "semaphore"}
    Nobody guards the slots:
        {"scenario": "semaphore", "lock": false}
    One release too many, before anybody is in, with a plain Semaphore:
        {"scenario": "semaphore", "extra_release": "before", "bounded": false}
    The same with a BoundedSemaphore:
        {"scenario": "semaphore", "extra_release": "before"}
    A worker releases once too often while it is in, with a BoundedSemaphore:
        {"scenario": "semaphore", "extra_release": "inside"}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1, 3.13.0 and a
    free-threaded 3.13.15, 30 runs on each (130 with lock false): the same outcome in every run, on all of them. Of 40
    visits, how many were made while the slots were full: the median, and the lowest and highest of all runs.

    parameters                             outcome         peak_inside  over_limit     ValueError in  wall_s
    (none)                                 limit_kept      2            0              nobody         0.21
    lock false                             limit_exceeded  8            38, 34 to 38   nobody         0.05
    extra_release before, bounded false    limit_exceeded  3            29, 20 to 34   nobody         0.15
    extra_release before                   refused         2            0              MainThread     0.21
    extra_release inside                   refused_late    3            28,  1 to 35   see below      0.15

    Worker-0 made the release that was one too many. The ValueError was raised in Worker-0 in 8 of the 180 runs, and in
    another worker, which had made no mistake, in 172.

Note:
    One release too many makes everything faster, by a third slot: nobody will complain.
    After the late ValueError the numbers are right again: the release that was refused was the one that was left over.
    It can come in the middle of a run, if all who are in happen to leave before anybody follows.
    Written `with semaphore:`, acquire and release are paired, and there is no release too many to be made.
    With hold_s 0 a worker may be out before the next one comes, and without a guard the limit may seem to be kept.

Source:
    Library reference, `threading`, "Semaphore objects". CPython, `Lib/threading.py`: `BoundedSemaphore.release` raises
    "Semaphore released too many times" if the value would exceed the initial one. Dijkstra, "Cooperating sequential
    processes" (EWD 123, 1965).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "wait"

MEASURES = {
    "wall_s": "lower",
    "visits_per_s": "higher",
    "peak_inside": "lower",
    "over_limit": "lower",
    "waited_s": "lower",
}
GROWS = {
    "wall_s": ("threads", "visits", "hold_s"),
    "cpu_s": ("threads", "visits", "hold_s"),
    "waited_s": ("threads", "visits", "hold_s"),
    "visits_per_s": ("hold_s",),
    "over_limit": ("threads", "visits"),
    "peak_inside": ("threads",),
}


@dataclass(frozen=True)
class Params:
    slots: int = field(default=2, metadata={"ge": 1, "le": 256, "description": "How many may be in at once."})
    threads: int = field(default=8, metadata={"ge": 1, "le": 256, "description": "How many workers want to be in."})
    visits: int = field(default=5, metadata={"ge": 1, "le": 1_000, "description": "How often each worker is in."})
    hold_s: float = field(
        default=0.01, metadata={"ge": 0.0, "le": 10.0, "description": "Seconds that a worker stays in."}
    )
    lock: bool = field(
        default=True, metadata={"description": "Whether a semaphore guards the slots; without it everybody goes in."}
    )
    bounded: bool = field(
        default=True, metadata={"description": "Whether it is a BoundedSemaphore or a plain Semaphore."}
    )
    extra_release: Literal["no", "before", "inside"] = field(
        default="no",
        metadata={
            "description": "Whether there is one release too many: `before` the workers come, when all slots are free, "
            "or by the first worker while it is `inside`."
        },
    )
    daemon: bool = field(
        default=False, metadata={"description": "Whether the workers are daemons; they are joined either way."}
    )

    def __post_init__(self) -> None:
        if self.extra_release != "no" and not self.lock:
            raise ValueError(
                "Without the lock there is no semaphore to release; set lock to true, or extra_release to no."
            )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if params.extra_release != "no":
        return outcomes_of_a_mistake(params)
    if params.lock:
        return {
            "limit_kept": ("acceptable", "Never were more workers in than there are slots."),
            "limit_exceeded": (
                "forbidden",
                "More workers were in than there are slots, although each had acquired one.",
            ),
        }
    return {
        "limit_exceeded": ("interesting", "More workers were in than there are slots: nobody held them back."),
        "not_seen": (
            "acceptable",
            f"Never were more workers in than there are slots in this run, but nobody saw to it. {what_to_try(params)}",
        ),
    }


def outcomes_of_a_mistake(params: Params) -> Dict[str, Tuple[str, str]]:
    not_seen = (
        f"One release too many added a slot that does not exist, but nobody used it in this run. {what_to_try(params)}"
    )
    exceeded = "One release too many added a slot that does not exist, and a worker more than allowed was in."
    if not params.bounded:
        return {"limit_exceeded": ("interesting", exceeded), "not_seen": ("acceptable", not_seen)}
    refused = "The release that was one too many raised ValueError, and the limit was kept."
    if params.extra_release == "before":
        still = "The release that was one too many was refused, and yet more workers were in than there are slots."
        return {"refused": ("acceptable", refused), "refused_late": ("forbidden", still)}
    return {
        "refused_late": (
            "interesting",
            "One release too many went unnoticed while slots were in use, and a worker more than allowed was in. The "
            "ValueError came when all slots were free again, at a release that was right.",
        ),
        "refused": ("acceptable", "A ValueError told of one release too many, and nobody had used the slot it added."),
    }


def what_to_try(params: Params) -> str:
    """What brings more workers than slots together."""
    return "Try more visits, or a longer hold_s." if params.threads > params.slots else "Try more threads than slots."


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    kind = threading.BoundedSemaphore if params.bounded else threading.Semaphore
    semaphore = kind(params.slots) if params.lock else None
    pool = Pool(params.slots)
    if semaphore is not None and params.extra_release == "before":
        release_too_often(semaphore, pool)
    threads = [
        lab.Thread(
            target=work,
            args=(params, pool, semaphore, params.extra_release == "inside" and number == 0, lab),
            name=f"Worker-{number}",
            daemon=params.daemon,
        )
        for number in range(params.threads)
    ]

    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun

    lab.checkpoint()
    return report(params, pool, wall_s)


class Pool:
    """Counts who is in. The count has a lock of its own, so it is exact whoever guards the slots."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()  # not the lab's: traced, it would be told in place of the semaphore
        self._inside = 0  # guarded by _lock, as are the next three
        self.visits = 0
        self.peak_inside = 0
        self.over_limit = 0
        self.waited_s: List[float] = []
        self.released_by: Optional[str] = None
        self.refusals: List[Tuple[str, str]] = []  # the thread, and what the semaphore said

    def enter(self) -> None:
        """Count one more in."""
        with self._lock:
            self._inside += 1
            self.visits += 1
            self.peak_inside = max(self.peak_inside, self._inside)
            self.over_limit += self._inside > self._slots

    def leave(self) -> None:
        """Count one less in."""
        with self._lock:
            self._inside -= 1

    def refuse(self, exc: ValueError) -> None:
        """Take down in which thread the semaphore refused a release, and what it said."""
        self.refusals.append((threading.current_thread().name, str(exc)))


def work(params: Params, pool: Pool, semaphore: Optional[threading.Semaphore], release_too: bool, lab: Lab) -> None:
    for visit in range(params.visits):
        if lab.cancelled:
            return
        if semaphore is None:
            use(params.hold_s, pool)
            continue
        try:
            begun = time.perf_counter()
            with semaphore:
                pool.waited_s.append(time.perf_counter() - begun)
                use(params.hold_s, pool, semaphore if release_too and visit == 0 else None)
        except ValueError as exc:  # raised where `with` releases
            pool.refuse(exc)


def use(hold_s: float, pool: Pool, too_often: Optional[threading.Semaphore] = None) -> None:
    pool.enter()
    if too_often is not None:
        release_too_often(too_often, pool)
    time.sleep(hold_s)
    pool.leave()


def release_too_often(semaphore: threading.Semaphore, pool: Pool) -> None:
    pool.released_by = threading.current_thread().name
    try:
        semaphore.release()
    except ValueError as exc:
        pool.refuse(exc)


def report(params: Params, pool: Pool, wall_s: float) -> Dict[str, Any]:
    refused_in, said = pool.refusals[0] if pool.refusals else (None, None)
    print(f"At most {pool.peak_inside} were in at once; there are {params.slots} slots.")
    return {
        "outcome": judge(params, pool.over_limit, len(pool.refusals)),
        "visits": pool.visits,
        "peak_inside": pool.peak_inside,
        "over_limit": pool.over_limit,
        "released_too_often_by": pool.released_by,
        "refusals": len(pool.refusals),
        "refused_in": refused_in,
        "said": said,
        "waited_s": sum(pool.waited_s),
        "wall_s": wall_s,
        "visits_per_s": pool.visits / wall_s,
    }


def judge(params: Params, over_limit: int, refusals: int) -> str:
    if refusals:
        return "refused_late" if over_limit else "refused"
    if over_limit:
        return "limit_exceeded"
    return "limit_kept" if params.lock and params.extra_release == "no" else "not_seen"
