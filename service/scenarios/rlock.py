"""RLock: a method that holds a lock calls another one that takes the same lock.

A `threading.Lock` does not know who holds it. A thread that takes it while it holds it waits until it is released, and
the only one who would release it is the thread that waits. So a method that takes the object's lock cannot call another
one that does, which is easily overlooked when the second call comes three methods further down. A `threading.RLock`
knows its owner and counts: the owner may take it again, and it is free when it has been released as often as taken.

Run it:
    A lock that its holder may take again:
        {"scenario": "rlock"}
    A plain lock - the thread waits for itself:
        {"scenario": "rlock", "reentrant": false}
    A plain lock that is taken only once at a time:
        {"scenario": "rlock", "reentrant": false, "depth": 1}
    Ten methods deep:
        {"scenario": "rlock", "depth": 10, "threads": 8}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside. How many runs got stuck, and the median seconds from the
    request to the answer; then one thread, 20,000 deposits, the median microseconds of one deposit in 5 runs.

    parameters            3.9.18         3.10.13        3.11.7         3.12.1         3.13.0         3.13.15t
    (none)                0/20           0/20           0/20           0/20           0/20           0/20
    depth 10, threads 8   0/10           0/10           0/10           0/10           0/10           0/10
    reentrant false       100/100 0.054  100/100 0.054  100/100 0.052  100/100 0.051  100/100 0.051  100/100 0.050
    the same, depth 1     0/20           0/20           0/20           0/20           0/20           0/20

    RLock, depth 1        1.66           1.54           2.14           0.88           1.10           1.87
    RLock, depth 2        2.69           2.56           2.99           1.67           2.15           2.95
    RLock, depth 10       10.2           9.5            13.5           6.3            7.7            11.6
    plain, depth 1        1.11           1.11           1.20           0.76           1.24           1.39

    These are locks with a name, which cost two to seven times what the interpreter's own do; 3.13.15t is free-threaded.

Note:
    The lock has a name (`lab.RLock("account")`), so that the service sees that the job can never end, and says so at
    once. A script with this mistake hangs, on the first call and every time, even with one thread: that is the good
    side of it.
    The owner of an RLock is a thread's ident, and idents are used again. One that a thread took and did not release
    before it ended could be taken by the next new thread in 97, 35, 31, 56, 100 and 100 of 100 tries on 3.9.18,
    3.10.13, 3.11.7, 3.12.1, 3.13.0 and a free-threaded 3.13.15. Nobody should count on it: use `with`.

Source:
    Library reference, `threading.RLock`. CPython 3.9 to 3.13, `Modules/_threadmodule.c`: `rlock_acquire` compares the
    owner, and `lock_PyThread_acquire_lock` has none to compare.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ContextManager, Dict, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

MEASURES = {"per_deposit_s": "lower", "wall_s": "lower"}
GROWS = {
    "wall_s": ("threads", "iterations", "depth"),
    "cpu_s": ("threads", "iterations", "depth"),
    "per_deposit_s": ("depth",),
}


@dataclass(frozen=True)
class Params:
    threads: int = field(default=2, metadata={"ge": 1, "le": 64, "description": "How many threads pay in."})
    iterations: int = field(
        default=1000, metadata={"ge": 1, "le": 1_000_000, "description": "How often each of them pays in."}
    )
    depth: int = field(
        default=2,
        metadata={"ge": 1, "le": 100, "description": "How many methods, each called by the one before, take the lock."},
    )
    reentrant: bool = field(
        default=True, metadata={"description": "Whether the lock is a `threading.RLock` and not a plain `Lock`."}
    )


def lane(params: Params) -> str:
    return "wait" if waits_for_itself(params) else "cpu"


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    exact = "Every deposit was counted, and every thread came to its end"
    if not waits_for_itself(params):
        why = "its holder may take the lock again" if params.reentrant else "nobody took the lock who already held it"
        return {
            "exact": ("acceptable", f"{exact}: {why}."),
            "lost": ("forbidden", "A deposit was lost although each was made under the lock."),
            "stuck": (
                "forbidden",
                "Its threads waited for each other for ever, although none had to wait for itself.",
            ),
        }
    return {
        "stuck": (
            "interesting",
            "It did not end: if `error` names a deadlock, the thread that held the lock took it again, and waited for "
            "itself, for ever, and if not, its time was up too soon.",
        ),
        "exact": ("forbidden", f"{exact}, although a plain lock was taken twice by its holder."),
        "lost": ("forbidden", "A plain lock was taken twice, and a deposit was lost."),
    }


def waits_for_itself(params: Params) -> bool:
    return params.depth > 1 and not params.reentrant


class Account:
    """The lock is taken by each method, as it must be if each can be called from outside."""

    def __init__(self, lock: ContextManager[Any]) -> None:
        self._lock = lock
        self.balance = 0

    def deposit(self, depth: int) -> None:
        """Pay in, by as many calls one inside the other as are asked for."""
        with self._lock:
            if depth > 1:
                self.deposit(depth - 1)
            else:
                self.balance += 1


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    account = Account(lab.RLock("account") if params.reentrant else lab.Lock("account"))
    threads = [
        lab.Thread(target=pay_in, args=(params, lab, account), name=f"Payer-{number}")
        for number in range(1, params.threads + 1)
    ]

    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun

    lab.checkpoint()  # who was told to stop has not paid in all
    expected = params.threads * params.iterations
    print(f"Balance: {account.balance}")
    return {
        "outcome": "exact" if account.balance == expected else "lost",
        "expected": expected,
        "actual": account.balance,
        "lost": expected - account.balance,
        "lock_taken": expected * params.depth,
        "wall_s": wall_s,
        "per_deposit_s": wall_s / expected,
    }


def pay_in(params: Params, lab: Lab, account: Account) -> None:
    for _ in range(params.iterations):
        lab.checkpoint()
        account.deposit(params.depth)
