"""Custom: threads of your own, put together from the five parameters of `Thread()`.

`target` is what the thread runs, `args` and `kwargs` are what the target is called with, `name` is for people, and
`daemon` says whether the process may end while the thread runs. A thread that is given no name gets one that counts
up, and a thread that is given no `daemon` has that of the thread that made it: the main thread's, which is false.

An exception ends the thread it was raised in, and nothing else: `join` does not raise it again.

The targets, with what each is called with unless it is told otherwise:

    print_numbers(count=5, delay_s=1.0)        a line for each number from 1 on, and a pause after each
    print_letters(letters="ABCDE", delay_s=1.0)   a line for each letter, and a pause after each
    sleep(delay_s=1.0)                         waits
    compute(iterations=100000)                 adds up squares: it needs the processor all the time
    hold_lock(hold_s=1.0)                      takes the one lock that all threads of the program share, and sleeps
    fail(message="This thread was told to fail.")   raises a RuntimeError

Run it:
    The tutorial's program, with every parameter written out:
        {"scenario": "custom"}
    Positional and keyword arguments mix as in any call:
        {"scenario": "custom", "program": [{"target": "print_numbers", "args": [3, 0.1]}, {"target": "print_letters", "kwargs": {"letters": "XYZ", "delay_s": 0.1}}]}
    Main does not join: the interpreter waits for one thread, and cuts the other off:
        {"scenario": "custom", "join": false, "program": [{"target": "sleep", "args": [0.2], "daemon": false}, {"target": "print_numbers", "args": [100, 0.1], "daemon": true}]}
    Two threads want one lock:
        {"scenario": "custom", "program": [{"target": "hold_lock", "args": [0.2], "name": "First"}, {"target": "hold_lock", "args": [0.2], "name": "Second"}]}
    A thread that fails beside one that computes:
        {"scenario": "custom", "program": [{"target": "fail"}, {"target": "compute", "args": [50000]}]}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, one
    run each: the same on all of them but for what is said here.

    program                     outcome    what the rows show
    the tutorial's              all_ended  both started within 0.007 s and ended at 5.00 to 5.01 s
    not joined                  abandoned  ended_s 0.20 to 0.21 of the one; null, after 2 or 3 lines, of the other
    two threads want one lock   all_ended  ended_s 0.20 to 0.21 and 0.40 to 0.41
    a thread that fails         raised     the thread that computes beside it was not disturbed

Note:
    From 3.10 on a thread's own name holds its target's: "Thread-1 (sleep)"; 3.9 says "Thread-1".
    `daemon` makes no difference to a thread that is joined.

Source:
    The tutorial, "Parameter of Thread()". Library reference, `threading.Thread` and `threading.excepthook`.
"""  # noqa: E501  a request to paste stands on one line

from __future__ import annotations

import functools
import inspect
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, List, Literal, Optional, Tuple, Union

if TYPE_CHECKING:
    from service.child.lab import Lab


class Desk:
    """What a target works with besides its arguments: the shared lock, and a place for the lines that it prints."""

    def __init__(self, lock: threading.Lock) -> None:
        self.lock = lock
        self.printed: List[str] = []
        self.started_s: Optional[float] = None
        self.ended_s: Optional[float] = None
        self.raised: Optional[str] = None

    def say(self, line: str) -> None:
        """Print the line, and keep it."""
        print(line)
        self.printed.append(line)


# The targets, and what they can be called with, come before `Params`: its default program is checked as it is made.


def print_numbers(desk: Desk, /, count: int = 5, delay_s: float = 1.0) -> None:
    for number in range(1, count + 1):
        desk.say(f"Number: {number}")
        time.sleep(delay_s)


def print_letters(desk: Desk, /, letters: str = "ABCDE", delay_s: float = 1.0) -> None:
    for letter in letters:
        desk.say(f"Letter: {letter}")
        time.sleep(delay_s)


def sleep(desk: Desk, /, delay_s: float = 1.0) -> None:  # noqa: ARG001  every target gets a desk
    time.sleep(delay_s)


def compute(desk: Desk, /, iterations: int = 100_000) -> None:
    total = 0
    for number in range(iterations):
        total += number * number
    desk.say(f"Computed: {total}")


def hold_lock(desk: Desk, /, hold_s: float = 1.0) -> None:
    desk.say("Waiting for the lock.")
    with desk.lock:
        desk.say("Holding the lock.")
        time.sleep(hold_s)
    desk.say("Released the lock.")


def fail(desk: Desk, /, message: str = "This thread was told to fail.") -> None:  # noqa: ARG001  as in `sleep`
    raise RuntimeError(message)


TARGETS: Dict[str, Callable[..., None]] = {
    "print_numbers": print_numbers,
    "print_letters": print_letters,
    "sleep": sleep,
    "compute": compute,
    "hold_lock": hold_lock,
    "fail": fail,
}

MOST = {"count": 1000, "delay_s": 60, "hold_s": 60, "iterations": 10_000_000}  # chosen: minutes, not hours
MOST_CHARACTERS = 200  # of `letters` and `message`


def bind(call: Call) -> Dict[str, Any]:
    """Return the arguments of a call by the names of the target's parameters.

    Raises:
        ValueError: the target cannot be called like that.
    """
    if call.target not in TARGETS:
        raise ValueError(f"There is no target {call.target!r:.60}. Choose one of {', '.join(TARGETS)}.")
    try:
        bound = inspect.signature(TARGETS[call.target]).bind(None, *call.args, **(call.kwargs or {}))
    except TypeError as exc:
        raise ValueError(
            f"Cannot call {call.target} like that: {exc!s:.120}. Call it as {usage(call.target)}."
        ) from exc
    return dict(list(bound.arguments.items())[1:])  # without the desk


def usage(target: str) -> str:
    """The target's call with its defaults, as a person would write it."""
    parameters = list(inspect.signature(TARGETS[target]).parameters.values())[1:]
    return f"{target}({', '.join(f'{parameter.name}={parameter.default!r}' for parameter in parameters)})"


def check(target: str, name: str, value: Any) -> None:
    """Refuse a value that the target's parameter cannot take.

    Raises:
        ValueError: it is of another type, or out of its range.
    """
    if name in {"letters", "message"}:
        if not isinstance(value, str) or len(value) > MOST_CHARACTERS or not value.isprintable():
            raise ValueError(f"{name} of {target} must be text of up to {MOST_CHARACTERS} characters on one line.")
    elif name in {"count", "iterations"}:
        if not isinstance(value, int) or not 0 <= value <= MOST[name]:
            raise ValueError(f"{name} of {target} must be a whole number from 0 to {MOST[name]}.")
    elif not isinstance(value, (int, float)) or not 0 <= value <= MOST[name]:
        raise ValueError(f"{name} of {target} must be a number of seconds from 0 to {MOST[name]}.")


@dataclass(frozen=True)
class Call:
    """One thread: the five parameters of `threading.Thread`."""

    __pydantic_config__: ClassVar[Dict[str, str]] = {"extra": "forbid"}  # for the API: a mistyped name is an error

    target: Literal["print_numbers", "print_letters", "sleep", "compute", "hold_lock", "fail"] = field(
        default="sleep", metadata={"description": "The function that the thread runs; see the scenario's text."}
    )
    args: Tuple[Union[int, float, str], ...] = field(
        default=(), metadata={"max_length": 4, "description": "Positional arguments of the target."}
    )
    kwargs: Optional[Dict[str, Union[int, float, str]]] = field(
        default=None, metadata={"max_length": 4, "description": "Keyword arguments of the target; null for none."}
    )
    name: Optional[str] = field(
        default=None,
        metadata={
            "min_length": 1,
            "max_length": 50,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$",  # a control character could split a line
            "description": "The thread's name; null lets the interpreter count: Thread-1, Thread-2, ...",
        },
    )
    daemon: Optional[bool] = field(
        default=None,
        metadata={
            "strict": True,
            "description": "Whether the process may end while it runs; null takes it from the main thread: false.",
        },
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", tuple(self.args))  # JSON's lists
        for name, value in bind(self).items():
            check(self.target, name, value)


@dataclass(frozen=True)
class Params:
    program: Tuple[Call, ...] = field(
        default=(
            Call("print_numbers", (5,), {"delay_s": 1.0}, "Numbers", daemon=False),
            Call("print_letters", ("ABCDE",), {"delay_s": 1.0}, "Letters", daemon=False),
        ),
        metadata={
            "max_length": 64,
            "counts": "threads",
            "description": "The threads, in the order in which they start; at least one.",
        },
    )
    join: bool = field(
        default=True, metadata={"description": "Whether the main thread waits for all of them before it ends."}
    )

    def __post_init__(self) -> None:
        calls = tuple(Call(**call) if isinstance(call, dict) else call for call in self.program)  # JSON's objects
        object.__setattr__(self, "program", calls)
        if not calls:
            raise ValueError('The program is empty. Put at least one call into it, such as {"target": "sleep"}.')


def lane(params: Params) -> str:
    return "cpu" if any(call.target == "compute" for call in params.program) else "wait"


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    joined = {
        "all_ended": ("acceptable", "Every thread came to its own end while the main thread was there."),
        "raised": (
            "interesting",
            "A thread ended with an exception: it was printed, and neither join() nor the main thread heard of it.",
        ),
    }
    if params.join:
        return joined
    return {
        **joined,
        "awaited": ("acceptable", "The main thread was done, and the interpreter waited for every other thread."),
        "abandoned": (
            "acceptable",
            "The process ended while a daemon thread was running, and cut it off where it was.",
        ),
        "not_awaited": ("forbidden", "The process ended while a thread that is no daemon was running."),
        "outlived_main": (
            "interesting",
            "A thread was running when the main thread ended, and what came of it was not seen: the process was ended "
            "from outside.",
        ),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    lock = lab.Lock()
    desks = [Desk(lock) for _ in params.program]
    threads = [
        lab.Thread(
            target=at_desk(call, desk, lab), args=call.args, kwargs=call.kwargs, name=call.name, daemon=call.daemon
        )
        for call, desk in zip(params.program, desks)
    ]
    for thread in threads:
        thread.start()
    if params.join:
        for thread in threads:
            thread.join()
    outlived = [thread.is_alive() for thread in threads]

    def rows(alive_at_exit: List[Optional[bool]]) -> List[Dict[str, Any]]:
        return list(map(row, params.program, threads, desks, outlived, alive_at_exit))

    @lab.at_exit
    def see_the_end() -> Dict[str, Any]:
        """What is true when the interpreter has waited for all that it waits for, just before the process ends."""
        alive = [thread.is_alive() for thread in threads]
        cut_off = [thread.daemon for thread, is_alive in zip(threads, alive) if is_alive]
        return {"outcome": judge(desks, outlived, cut_off), "threads": rows([*alive])}

    outcome = "outlived_main" if any(outlived) else judge(desks, outlived, [])
    return {"outcome": outcome, "threads": rows([None] * len(threads))}


def at_desk(call: Call, desk: Desk, lab: Lab) -> Callable[..., None]:
    """The call's target with its desk before it and its times noted around it; it keeps the target's name."""
    target = TARGETS[call.target]

    @functools.wraps(target)
    def work(*args: Any, **kwargs: Any) -> None:
        desk.started_s = lab.time_passed()
        try:
            target(desk, *args, **kwargs)
        except Exception as exc:
            desk.raised = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            desk.ended_s = lab.time_passed()

    return work


def row(
    call: Call, thread: threading.Thread, desk: Desk, outlived_main: bool, alive_at_exit: Optional[bool]
) -> Dict[str, Any]:
    """One thread as the table of `Thread()`'s parameters describes it, and what it did."""
    return {
        "target": call.target,
        "args": list(call.args),
        "kwargs": dict(call.kwargs or {}),
        "name": thread.name,
        "daemon": thread.daemon,
        "daemon_inherited": call.daemon is None,
        "started_s": desk.started_s,
        "ended_s": desk.ended_s,
        "printed": list(desk.printed),
        "raised": desk.raised,
        "alive_when_main_ended": outlived_main,
        "alive_at_exit": alive_at_exit,
    }


def judge(desks: List[Desk], outlived: List[bool], cut_off: List[bool]) -> str:
    """The outcome, given which threads outlived the main thread, and of each one cut off whether it is a daemon."""
    if not all(cut_off):
        return "not_awaited"
    if any(desk.raised for desk in desks):
        return "raised"
    if cut_off:
        return "abandoned"
    return "awaited" if any(outlived) else "all_ended"
