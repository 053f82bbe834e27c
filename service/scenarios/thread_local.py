"""Thread-local: each thread notes its request's user in one place for all, or in a `threading.local()`.

A web server that handles a request in each thread likes to keep "the current user" where every function can find it. In
a global there is one such user for all threads: whoever wrote last is everybody's. A `threading.local()` looks like a
global and has a value for each thread.

For each thread, not for each request. A pool's thread goes on from one request to the next, and what the first one left
in the local is there when the second one looks. A request that sets no user of its own is then somebody else. So what a
request puts there it must take away when it ends.

Run it:
    A value for each thread:
        {"scenario": "thread_local"}
    One global for all threads:
        {"scenario": "thread_local", "local": false}
    In a pool, values go from one request to the next:
        {"scenario": "thread_local", "pool": true}
    In a pool, with each request taking away what it set:
        {"scenario": "thread_local", "pool": true, "reset": true}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; 4 threads, 100 requests. How many runs had wrong users,
    and the median count: of 100 requests, in a pool of 20 anonymous ones. wall_s is 0.03 s everywhere.

    parameters             3.9.18      3.10.13     3.11.7      3.12.1      3.13.0      3.13.15t
    local false: mixed_up  100/100 99  100/100 99  100/100 99  100/100 99  100/100 99  100/100 99
    local true             0/20        0/20        0/20        0/20        0/20        0/20
    pool true: leaked      100/100 20  100/100 20  100/100 20  100/100 20  100/100 20  100/100 20
    pool true, reset true  0/20        0/20        0/20        0/20        0/20        0/20

Note:
    Without a pause (pause_s 0) the global mixed up 4 requests on 3.9.18 and 3.10.13, in 95 and 92 of 100 runs, and some
    90 in every run on the others.
    A leak needs an anonymous request on a thread that has served somebody before. When every second request was
    anonymous, four threads in step each got requests of one kind only: 48 of 100 runs on 3.13.15t leaked nothing.

Source:
    Library reference, `threading.local` ("Thread-local data"), and `concurrent.futures.ThreadPoolExecutor` (idle
    threads are used again). PEP 567 (context variables, for code in which one thread serves several requests at once).
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "wait"
MEASURES: Dict[str, str] = {"mixed_up": "lower", "leaked": "lower", "wall_s": "lower"}
GROWS = {
    "wall_s": ("requests", "pause_s"),
    "cpu_s": ("requests", "pause_s"),
    "mixed_up": ("requests",),
    "leaked": ("requests",),
}

EXAMPLES = 5  # how many wrong requests the answer shows


@dataclass(frozen=True)
class Params:
    local: bool = field(
        default=True, metadata={"description": "Whether the user is kept in a threading.local(), not in a global."}
    )
    pool: bool = field(
        default=False,
        metadata={
            "description": "Whether a ThreadPoolExecutor handles the requests. One in `threads` + 1 of them is then "
            "anonymous: it sets no user, and should see none."
        },
    )
    reset: bool = field(
        default=False, metadata={"description": "Whether each request, when it ends, takes away the user it has set."}
    )
    threads: int = field(default=4, metadata={"ge": 2, "le": 256, "description": "How many threads handle requests."})
    requests: int = field(
        default=100, metadata={"ge": 2, "le": 10_000, "description": "How many requests there are in all."}
    )
    pause_s: float = field(
        default=0.001,  # chosen: a quick query
        metadata={
            "ge": 0.0,
            "le": 1.0,
            "description": "Seconds that a request waits for something between setting its user and reading it back.",
        },
    )

    def __post_init__(self) -> None:
        if self.requests < self.threads:
            raise ValueError("There are fewer requests than threads. Raise `requests` or lower `threads`.")


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    others = "A request read another request's user back: another thread had set it in the meantime."
    left = "An anonymous request found a user: the one that an earlier request of the same thread had left there."
    kept = ("acceptable", "Every request saw its own user, and an anonymous one none.")
    longer = "" if params.local else ", or a longer pause_s"  # what is left behind stays there, however long it takes
    not_seen = (
        "acceptable",
        f"Every request saw its own user this time, which does not show that it must. Try more requests{longer}.",
    )
    if not params.local:
        both = "A request without a user found another's: there is one place for all."
        found = {"mixed_up": ("interesting", others), "leaked": ("interesting", both)}
        return {**found, "not_seen": not_seen} if params.pool else {"mixed_up": found["mixed_up"], "not_seen": not_seen}
    if not params.pool:
        return {"kept": kept, "mixed_up": ("forbidden", others)}
    if params.reset:
        return {"kept": kept, "mixed_up": ("forbidden", others), "leaked": ("forbidden", left)}
    return {"leaked": ("interesting", left), "not_seen": not_seen, "mixed_up": ("forbidden", others)}


class Request(NamedTuple):
    number: int
    user: Optional[str]  # None: anonymous


class Seen(NamedTuple):
    request: Request
    user: Optional[str]
    thread: str


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    context = threading.local() if params.local else SimpleNamespace()
    # not every second one: four threads in step would each get requests of one kind only, and nothing would leak
    anonymous = [params.pool and (number + 1) % (params.threads + 1) == 0 for number in range(params.requests)]
    requests = [Request(number, None if alone else f"user-{number}") for number, alone in enumerate(anonymous)]

    def handle(request: Request) -> Seen:
        """What a web framework's thread does, with `context` as its global name for the current request."""
        lab.checkpoint()
        if request.user is not None:
            context.user = request.user
        time.sleep(params.pause_s)
        seen = Seen(request, getattr(context, "user", None), threading.current_thread().name)
        if params.reset:
            context.user = None
        return seen

    begun = time.perf_counter()
    if params.pool:
        with ThreadPoolExecutor(params.threads) as pool:
            seen = list(pool.map(handle, requests))
    else:
        seen = by_threads(handle, requests, params.threads, lab)
    wall_s = time.perf_counter() - begun
    lab.checkpoint()

    wrong = [one for one in seen if one.user != one.request.user]
    leaked = sum(one.request.user is None for one in wrong)
    return {
        "outcome": judge(params, len(wrong) - leaked, leaked),
        "requests": len(seen),
        "anonymous": sum(anonymous),
        "mixed_up": len(wrong) - leaked,
        "leaked": leaked,
        "threads_used": len({one.thread for one in seen}),
        "examples": [
            {"request": one.request.number, "user": one.request.user, "saw": one.user, "thread": one.thread}
            for one in wrong[:EXAMPLES]
        ],
        "wall_s": wall_s,
    }


def by_threads(handle: Any, requests: List[Request], threads: int, lab: Lab) -> List[Seen]:
    """Handle the requests on threads of our own; each takes its share of them, one after the other."""
    seen: List[Seen] = []

    def work(share: List[Request]) -> None:
        for request in share:
            seen.append(handle(request))  # noqa: PERF401  each is noted as soon as it is handled

    started = [lab.Thread(target=work, args=(requests[number::threads],)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return seen


def judge(params: Params, mixed_up: int, leaked: int) -> str:
    if mixed_up:
        return "mixed_up"
    if leaked:
        return "leaked"
    return "kept" if params.local and (params.reset or not params.pool) else "not_seen"
