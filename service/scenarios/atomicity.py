"""Atomicity: how short a run of an everyday operation loses an update on this interpreter, and where it can.

An update reads, changes and writes. It is lost when another thread writes between this one's read and write, and with
the GIL that takes a place in between where the interpreter hands the GIL over. Which instructions those are has changed
from version to version, so the same line loses on one interpreter and not on the next. The answer has both sides: what
was lost, in runs of 10, 100, 1,000, ... until something is, and the line as this interpreter compiles it, with a mark
at each instruction where another thread can come in. A mark between the `read` and the `write` says that an update can
be lost. No mark there says how this version was built: the language promises nothing of the kind.

Run it:
    The tutorial's addition:
        {"scenario": "atomicity"}
    A count in a dictionary, with a call in it:
        {"scenario": "atomicity", "operation": "dict_get"}
    An object that is made when it is first asked for:
        {"scenario": "atomicity", "operation": "lazy_init"}
    One call instead of a check and an act:
        {"scenario": "atomicity", "operation": "setdefault"}
    A call in the addition, and the interpreter's own switch interval:
        {"scenario": "atomicity", "operation": "function_call", "switch_interval_s": null}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; default parameters, 20 runs: in how many of
    them updates were lost, and the operations by each of 4 threads that were enough for it in half of those.

    operation       3.9.18        3.10.13       3.11.7        3.12.1        3.13.0        3.13.15t
    augmented       20/20  1,000  0/20          0/20          0/20          0/20          20/20  100
    split           20/20  1,000  0/20          0/20          0/20          0/20          20/20  100
    attribute       20/20  1,000  0/20          0/20          0/20          0/20          20/20  100
    item            20/20  1,000  0/20          0/20          0/20          0/20          20/20  100
    check_then_act  20/20  1,000  0/20          0/20          0/20          0/20          20/20  100
    function_call   20/20  1,000  20/20  1,000  20/20  1,000  20/20  1,000  20/20  1,000  20/20  100
    property        20/20  1,000  20/20  1,000  20/20  1,000  20/20  1,000  20/20  1,000  20/20  100
    dict_get        20/20  1,000  20/20  1,000  20/20  1,000  20/20  1,000  20/20  1,000  20/20  100
    lazy_init       20/20  1,000  20/20  1,000  20/20  1,000  20/20  1,000  20/20  1,000  20/20  100
    yield           20/20     10  20/20     10  20/20     10  20/20     10  20/20     10  20/20   10
    setdefault      0/20          0/20          0/20          0/20          0/20          0/20
    list_append     0/20          0/20          0/20          0/20          0/20          0/20

    In all 72 fields something was lost exactly where `gap_has_switch` is true. What lost nothing lost nothing in
    13,333,320 operations, either (iterations 1,000,000, budget_s 60; one run). A run that loses takes some 0.01 s, one
    that does not 0.05 to 0.2 s.

Note:
    The share that is lost at the shortest length says little; of the races for a key it is small at any length (0.03
    to 0.7 %), because the threads meet at a key only where they have caught up with one another.
    A single call is one step here as far as the list or dictionary is concerned. With keys or items whose `__eq__`,
    `__hash__` or `__del__` are written in Python it is not, and the marks do not see that.

Source:
    CPython: `Python/ceval.c` of 3.9 (DISPATCH, FAST_DISPATCH, eval_breaker) and 3.11, `Python/bytecodes.c` of 3.12 and
    3.13 (CHECK_EVAL_BREAKER). bpo-29988 (3.10: only after calls and on the back edges of loops). PEP 703 (no GIL).
    CPython issues 89598, 125646 and 134212 (not a guarantee). Library and Extension FAQ, "What kinds of global value
    mutation are thread-safe?". Library reference, `dis` and `sys.setswitchinterval`.
"""
# ruff: noqa: PLW0603  the counter of the tutorial is a module's global, as it is in the scripts that this stands for

from __future__ import annotations

import dis
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Literal, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "cpu"
MEASURES: Dict[str, str] = {"lost_share": "lower", "smallest_iterations": "higher"}
GROWS = {"wall_s": ("threads", "iterations", "attempts"), "cpu_s": ("threads", "iterations", "attempts")}


@dataclass(frozen=True)
class Params:
    operation: Literal[
        "augmented",
        "split",
        "attribute",
        "item",
        "function_call",
        "property",
        "yield",
        "dict_get",
        "check_then_act",
        "lazy_init",
        "setdefault",
        "list_append",
    ] = field(
        default="augmented",
        metadata={
            "description": "The line that every thread repeats. `augmented` to `yield` are the additions of the "
            "scenario counter; `dict_get` counts with `counts.get`; `check_then_act` puts a key in if it is not there, "
            "`lazy_init` calls a function for its value, `setdefault` does it in one call; `list_append` appends."
        },
    )
    threads: int = field(default=4, metadata={"ge": 2, "le": 256, "description": "How many threads do it at a time."})
    iterations: int = field(
        default=100_000,
        metadata={
            "ge": 1,
            "le": 1_000_000,  # with list_append and 256 threads that is a list of 2 GB
            "description": "How often each thread does it in the longest run. Runs begin with 10, and each is ten "
            "times as long as the one before, until one loses.",
        },
    )
    attempts: int = field(default=3, metadata={"ge": 1, "le": 100, "description": "Runs of each length."})
    switch_interval_s: Optional[float] = field(
        default=1e-6,  # of 0.000001, 0.0001 and 0.001 the one at which the shortest runs lost, on every interpreter
        metadata={
            "ge": 1e-6,  # sys.setswitchinterval counts whole microseconds
            "le": 10.0,
            "description": "Seconds after which a waiting thread may ask for the GIL; null leaves the interpreter's "
            "own 0.005. It has no effect on a free-threaded build.",
        },
    )
    budget_s: float = field(
        default=1.0,
        metadata={"ge": 0.001, "le": 60.0, "description": "Seconds for all runs; one that may not fit is not begun."},
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    return {
        "lost": (
            "interesting",
            f"At least one update by `{OPERATIONS[params.operation].code}` was lost: another thread wrote between its "
            "read and its write. Put it under a lock.",
        ),
        "not_seen": (
            "acceptable",
            "Nothing was lost here; the language does not promise it. `gap_has_switch` says whether this interpreter "
            "can let another thread in between the read and the write, `switch_rule` where and why. Keep the lock.",
        ),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    if params.switch_interval_s is not None:
        sys.setswitchinterval(params.switch_interval_s)
    operation = OPERATIONS[params.operation]
    work = loop_of(operation)
    begun = time.perf_counter()
    runs, ended_by = look_for_a_loss(work, operation, params, lab)
    wall_s = time.perf_counter() - begun

    longest = [one for one in runs if one.iterations == runs[-1].iterations]
    expected, actual = sum(one.expected for one in longest), sum(one.actual for one in longest)
    lost, done = abs(expected - actual), params.threads * sum(one.iterations for one in runs)
    instructions = disassemble(work, operation)
    return {
        "outcome": "lost" if lost else "not_seen",
        "operation": params.operation,
        "code": operation.code,
        "finding": finding(longest, params.threads, done),
        "smallest_iterations": longest[0].iterations if lost else None,
        "iterations_reached": longest[0].iterations,
        "expected": expected,
        "actual": actual,
        "lost": lost,
        "lost_share": lost / max(expected, actual),
        "runs": len(runs),
        "runs_that_lost": sum(one.lost > 0 for one in runs),
        "operations_done": done,
        "ended_by": ended_by,
        "wall_s": wall_s,
        "gap_has_switch": gap_has_switch(instructions),
        "switch_rule": switch_rule(),
        "instructions": instructions,
    }


# The operations. Each is put into the same loop, so that what is run, disassembled and shown is one text.

LOOP = """\
def work(iterations):
    global counter
    me, won = object(), 0
    for key in range(iterations):
        {}
    winners.append(won)
"""

counter = 0
counts = {"total": 0}
owners: Dict[int, object] = {}
winners: List[int] = []  # how many keys each thread was the first to put in, as it saw it
items: List[None] = []


class Tally:
    value = 0


class Account:
    _balance = 0

    @property
    def balance(self) -> int:
        """What is read before the addition; the setter is called after it."""
        return self._balance

    @balance.setter
    def balance(self, value: int) -> None:
        self._balance = value


tally, account = Tally(), Account()


def one() -> int:
    return 1


def add(value: int, more: int) -> int:
    return value + more


def make() -> object:
    return object()


def clear() -> None:
    """Set everything back to what it was before the first run."""
    global counter
    counter = tally.value = account.balance = counts["total"] = 0
    owners.clear()
    winners.clear()
    items.clear()


CALLS_PYTHON = "it runs a function in Python, in which the GIL can be handed over"
AFTER_CALL = "a waiting thread is looked for after the call"
UNTIL_SPECIAL = AFTER_CALL + (", until CALL is specialized for list.append" if sys.version_info >= (3, 11) else "")
SLEEPS = "time.sleep gives the GIL up while it sleeps"

CALL = ("CALL_METHOD", "CALL")  # until 3.10, and since
GET_ITEM = ("BINARY_SUBSCR", "BINARY_OP []")  # until 3.13, and since
SET_ITEM = ("STORE_SUBSCR",)
COUNTER = (("LOAD_GLOBAL counter",), ("STORE_GLOBAL counter",), lambda: counter)


class Operation(NamedTuple):
    lines: Tuple[str, ...]
    read: Tuple[str, ...]  # the instruction that reads, with its argument where its name alone is not enough
    write: Tuple[str, ...]
    total: Callable[[], int]
    calls: str = AFTER_CALL  # why another thread can come in at a call
    keys: bool = False  # whether the threads race for keys, each of which should have one winner

    @property
    def code(self) -> str:
        """The lines as one."""
        return "; ".join(line.strip() for line in self.lines).replace(":;", ":")


def race(*lines: str, read: Tuple[str, ...], write: Tuple[str, ...], calls: str = AFTER_CALL) -> Operation:
    return Operation(lines, read, write, lambda: sum(winners), calls, keys=True)


OPERATIONS = {
    "augmented": Operation(("counter += 1",), *COUNTER),
    "split": Operation(("value = counter", "value = value + 1", "counter = value"), *COUNTER),
    "attribute": Operation(("tally.value += 1",), ("LOAD_ATTR value",), ("STORE_ATTR value",), lambda: tally.value),
    "item": Operation(('counts["total"] += 1',), GET_ITEM, SET_ITEM, lambda: counts["total"]),
    "function_call": Operation(("counter = add(counter, one())",), *COUNTER, CALLS_PYTHON),
    "property": Operation(
        ("account.balance += 1",), ("LOAD_ATTR balance",), ("STORE_ATTR balance",), lambda: account.balance
    ),
    "yield": Operation(("value = counter", "time.sleep(0)", "counter = value + 1"), *COUNTER, SLEEPS),
    "dict_get": Operation(('counts["total"] = counts.get("total", 0) + 1',), CALL, SET_ITEM, lambda: counts["total"]),
    "check_then_act": race(
        "if key not in owners:", "    owners[key] = me", "    won += 1", read=("CONTAINS_OP",), write=SET_ITEM
    ),
    "lazy_init": race(
        "if key not in owners:",
        "    owners[key] = make()",
        "    won += 1",
        read=("CONTAINS_OP",),
        write=SET_ITEM,
        calls=CALLS_PYTHON,
    ),
    "setdefault": race("if owners.setdefault(key, me) is me:", "    won += 1", read=CALL, write=CALL),
    "list_append": Operation(("items.append(None)",), CALL, CALL, lambda: len(items), UNTIL_SPECIAL),
}


def source_of(operation: Operation) -> str:
    return LOOP.format("\n        ".join(operation.lines))


def loop_of(operation: Operation) -> Callable[[int], None]:
    scope: Dict[str, Any] = {}
    exec(source_of(operation), globals(), scope)  # noqa: S102  a text of our own, from the table above
    work: Callable[[int], None] = scope["work"]
    return work


# The shortest run that loses.


class Run(NamedTuple):
    iterations: int
    expected: int  # as many as there would be with one thread after the other
    actual: int  # additions that were overwritten are missing; winners that were overwritten are too many

    @property
    def lost(self) -> int:
        """How many updates were overwritten."""
        return abs(self.expected - self.actual)


def look_for_a_loss(
    work: Callable[[int], None], operation: Operation, params: Params, lab: Lab
) -> Tuple[List[Run], str]:
    """All runs, the shortest first, and what ended them: a loss, the longest run, or the time."""
    runs: List[Run] = []
    end_s = lab.time_passed() + min(params.budget_s, lab.time_left())
    crew = Crew(work, params.threads, lab)
    run_s = 0.0  # how long a run of the present length may take
    steps = len(list(lengths(params.iterations)))  # a loss is found in an early one, mostly
    try:
        for step, iterations in enumerate(lengths(params.iterations)):
            lab.progress(step, steps)
            for _ in range(params.attempts):
                if runs and (lab.cancelled or lab.time_passed() + run_s > end_s):
                    return runs, "loss" if any(one.lost for one in runs) else "time"
                begun_s = lab.time_passed()
                clear()
                crew.work_together(iterations)
                runs.append(Run(iterations, iterations * (1 if operation.keys else params.threads), operation.total()))
                run_s = lab.time_passed() - begun_s
            if any(one.lost for one in runs):
                return runs, "loss"
            run_s *= 10
        return runs, "iterations"
    finally:
        crew.dismiss()


def lengths(iterations: int) -> Iterator[int]:
    length = 10
    while length < iterations:
        yield length
        length *= 10
    yield iterations


class Crew:
    """Threads that do the same work at the same time, as often as they are told; the same ones for all runs."""

    def __init__(self, work: Callable[[int], None], threads: int, lab: Lab) -> None:
        self._work = work
        self._iterations = 0  # written while the threads wait at the barrier
        self._barrier = threading.Barrier(threads + 1)  # the threads, and the one that tells them
        self._threads = [lab.Thread(target=self._obey) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def work_together(self, iterations: int) -> None:
        """Let all begin at the same time, and return when all are done."""
        self._iterations = iterations
        self._barrier.wait()
        self._barrier.wait()

    def dismiss(self) -> None:
        """End the threads, which wait at the barrier."""
        self._barrier.abort()
        for thread in self._threads:
            thread.join()

    def _obey(self) -> None:
        try:
            while True:
                self._barrier.wait()
                self._work(self._iterations)
                self._barrier.wait()
        except threading.BrokenBarrierError:
            pass  # dismissed
        finally:
            self._barrier.abort()  # whatever ended this thread, nobody waits for it


def finding(longest: List[Run], threads: int, done: int) -> str:
    """The answer in one sentence that can stand alone."""
    where = "on CPython {}.{}.{} ".format(*sys.version_info) + ("with the GIL" if has_gil() else "without a GIL")
    losing = sum(one.lost > 0 for one in longest)
    if not losing:
        return f"Nothing was lost in {done:,} operations {where}; the language does not promise it."
    size = f"{longest[0].iterations:,} operations by each of {threads} threads"
    return f"Updates were lost {where} in {losing} of {len(longest)} runs with {size}."


# Where this interpreter can let another thread run.


def has_gil() -> bool:
    return sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True  # noqa: SLF001  its documented name


def switch_rule() -> str:
    if not has_gil():
        return (
            "Without a GIL no place is needed: two threads run at the same moment, between any two instructions of "
            "each other. Only what one call does to a list or a dictionary is done under that object's own lock (PEP "
            "703)."
        )
    if sys.version_info < (3, 10):
        return (
            "Until CPython 3.9 a thread offers the GIL after nearly every instruction: after all but those that only "
            "move a reference, compare by `is` or `in`, or jump on True or False, and not right before SETUP_FINALLY, "
            "SETUP_WITH, BEFORE_ASYNC_WITH and YIELD_FROM (Python/ceval.c: DISPATCH, FAST_DISPATCH, eval_breaker)."
        )
    if sys.version_info < (3, 11):
        return (
            "Since CPython 3.10 a thread offers the GIL only around a call and when it jumps (JUMP_ABSOLUTE, and "
            "POP_JUMP_IF_... where the jump is taken) (bpo-29988; Python/ceval.c: CHECK_EVAL_BREAKER)."
        )
    unread = "" if sys.version_info < (3, 14) else " This is the rule of 3.13; it was not verified for this version."
    return (
        "Since CPython 3.11 a thread offers the GIL only after the call of a function in C (CALL...; not where CALL is "
        "specialized for list.append, len or isinstance), at the start of a function in Python (RESUME), and on the "
        "jump back of a loop (JUMP_BACKWARD) (bpo-29988; Python/ceval.c, bytecodes.c: CHECK_EVAL_BREAKER)." + unread
    )


def why_switch(instruction: dis.Instruction, operation: Operation) -> Optional[str]:
    """Why another thread can come in at this instruction; None if none can."""
    if not has_gil():
        return "no GIL: another thread can run at the same moment"
    if isinstance(vars(Account).get(instruction.argrepr), property):
        return CALLS_PYTHON
    if instruction.opname.startswith("CALL"):
        return operation.calls
    return why_switch_39(instruction.opname) if sys.version_info < (3, 10) else why_switch_310(instruction.opname)


GOES_ON = frozenset(  # FAST_DISPATCH(): on to the next instruction without a look at whether another thread waits
    "NOP LOAD_FAST LOAD_CONST STORE_FAST POP_TOP ROT_TWO ROT_THREE ROT_FOUR DUP_TOP DUP_TOP_TWO IS_OP CONTAINS_OP "  # noqa: SIM905  three lines, not twenty
    "JUMP_FORWARD POP_JUMP_IF_FALSE POP_JUMP_IF_TRUE JUMP_IF_FALSE_OR_POP JUMP_IF_TRUE_OR_POP".split()
)


def why_switch_39(name: str) -> Optional[str]:
    return None if name in GOES_ON else "a waiting thread is looked for after it"


def why_switch_310(name: str) -> Optional[str]:
    if name in {"JUMP_ABSOLUTE", "JUMP_BACKWARD"}:
        return "a waiting thread is looked for on the jump back"
    if name.startswith("POP_JUMP") and sys.version_info < (3, 11):
        return "a waiting thread is looked for when it jumps"
    return None


def disassemble(work: Callable[[int], None], operation: Operation) -> List[Dict[str, Any]]:
    """The instructions between the loop's `for` and its jump back, that jump included."""
    source = source_of(operation).splitlines()
    starts = dict(dis.findlinestarts(work.__code__))
    line, end = 0, 0
    rows: List[Dict[str, Any]] = []
    for instruction in dis.get_instructions(work):
        line = starts.get(instruction.offset) or line
        why = why_switch(instruction, operation)
        row = {
            "offset": instruction.offset,
            "opname": instruction.opname,
            "argrepr": instruction.argrepr,
            "line": line,
            "source": source[line - 1].strip(),
            "switch": why is not None,
            "why": why,
            "role": role_of(instruction, operation),
        }
        rows.append(row)
        if instruction.opname in {"JUMP_ABSOLUTE", "JUMP_BACKWARD"}:
            end = len(rows)  # where the condition is false, some versions jump back from the middle
    first = [row["opname"] for row in rows].index("FOR_ITER") + 2  # after it `key` is stored
    return rows[first:end]


def role_of(instruction: dis.Instruction, operation: Operation) -> Optional[str]:
    names = {instruction.opname, f"{instruction.opname} {instruction.argrepr}"}
    roles = [role for role in ("read", "write") if names.intersection(getattr(operation, role))]
    return " and ".join(roles) or None


def gap_has_switch(rows: List[Dict[str, Any]]) -> bool:
    """Whether another thread can come in after the read and before the effect of the write."""
    roles = [row["role"] for row in rows]
    if "read and write" in roles:
        return False  # both are inside one call
    first, last = roles.index("read"), roles.index("write")
    stays = [row for row in rows[first:last] if "JUMP" not in row["opname"]]  # a jump leaves without the write
    return any(row["switch"] for row in stays) or rows[last]["why"] == CALLS_PYTHON
