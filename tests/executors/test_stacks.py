"""What the fault handler writes down, read: in the form of each version, and whatever else stands there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.child.wire import MOST_FRAMES, MOST_THREADS
from service.executors import stacks
from tests.executors.helpers import make_order

ORDER = make_order("first = 1\n    second = 2\nthird = 3\n")
OURS = f'  File "{stacks._OURS}/loop.py", line 205 in _ship\n'

CRASH = f"""Fatal Python error: Segmentation fault

Thread 0x00000000000000b2 (most recent call first):
{OURS}
Thread 0x00000000000000b1 (most recent call first):
  File "scenarios/probe.py", line 2 in sleeper
  File "/usr/lib/python3.11/threading.py", line 982 in run
  File "{stacks._OURS}/lab.py", line 37 in run
  File "/usr/lib/python3.11/threading.py", line 1045 in _bootstrap_inner
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x00000000000000a0 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "scenarios/probe.py", line 3 in run
{OURS}
Extension modules: _ctypes (total: 1)
"""


def place(file: str, line: int, function: str, code: str | None) -> dict[str, Any]:
    """One call, as it is told."""
    return {"file": file, "line": line, "function": function, "code": code}


def test_a_crash() -> None:
    """The scenario's threads are told in the order of their starts, with their lines; ours are not."""
    dump = stacks.read(CRASH, ORDER, 0xA0)
    main, sleeper = dump.threads
    assert (0, True) == (dump.more, dump.whole)
    assert (0xA0, True, 0xB1, False) == (main.ident, main.main, sleeper.ident, sleeper.main)
    assert [
        place("scenarios/probe.py", 3, "run", "third = 3"),
        place("/usr/lib/python3.11/ctypes/__init__.py", 519, "string_at", None),
    ] == main.frames
    assert [place("scenarios/probe.py", 2, "sleeper", "second = 2")] == sleeper.frames


def test_threads_with_names() -> None:
    """CPython 3.14 writes a thread's name behind its number."""
    text = 'Thread 0xb1 [Thread-1 (work)] (most recent call first):\n  File "scenarios/probe.py", line 1 in work\n'
    (stack,) = stacks.read(text, ORDER, 0xA0).threads
    assert (0xB1, "first = 1") == (stack.ident, stack.frames[0]["code"])


@pytest.mark.parametrize(
    "nothing", [None, "", "Fatal Python error: Aborted\n", "Thread 0xb1 (most recent call first):\n"]
)
def test_nothing_was_written(nothing: str | None) -> None:
    """Where no thread is told of, none is told."""
    assert stacks.Dump() == stacks.read(nothing, ORDER, 0xA0)


def test_very_much() -> None:
    """Of many threads and deep stacks as much is told as an autopsy may hold."""
    deep = '  File "scenarios/probe.py", line 1 in deep\n' * 100
    text = "".join(f"Thread 0x{ident:016x} (most recent call first):\n{deep}\n" for ident in range(100, 0, -1))
    dump = stacks.read(text, ORDER, 1)
    assert [*range(1, MOST_THREADS + 1)] == [stack.ident for stack in dump.threads]
    assert {MOST_FRAMES} == {len(stack.frames) for stack in dump.threads}
    assert (100 - MOST_THREADS, True) == (dump.more, dump.whole)


def test_the_main_thread_for_itself() -> None:
    """Of more threads than it writes of, the main one is told for itself, behind the others, and comes first here."""
    text = "".join(
        f'Thread 0x{ident:016x} (most recent call first):\n  File "scenarios/probe.py", line 1 in work\n\n'
        for ident in range(300, 200, -1)
    )
    alone = 'Stack (most recent call first):\n  File "scenarios/probe.py", line 3 in run\n'
    dump = stacks.read(f"{text}...\n{alone}", ORDER, 0xA0)
    assert [(0xA0, True, "third = 3"), (201, False, "first = 1")] == [
        (stack.ident, stack.main, stack.frames[0]["code"]) for stack in dump.threads[:2]
    ]
    assert (MOST_THREADS, 101 - MOST_THREADS, False) == (len(dump.threads), dump.more, dump.whole)


_PIECES = [
    "Thread 0x",
    "Current thread ",
    " (most recent call first):",
    '  File "',
    '", line ',
    " in ",
    "\n",
    "0",
    "9" * 30,
]


@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=5))).map("".join))
def test_whatever_stands_there(text: str) -> None:
    """A scenario may write into the same file: what makes no sense is passed over."""
    for stack in stacks.read(text, ORDER, 0xA0).threads:
        assert stack.frames
