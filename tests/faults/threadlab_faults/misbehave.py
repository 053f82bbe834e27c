"""Misbehave: what a scenario can do to whoever runs it.

Each kind is a way in which programs with threads go wrong, or in which one could try to get out. None of them may harm
more than its own job.

Run it:
    {"scenario": "misbehave", "kind": "busy"}

Observed: what the tests beside it say.

Source: every bug tracker.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Params:
    kind: Literal[
        "busy",
        "c_call",
        "deaf",
        "exit",
        "segfault",
        "fork_bomb",
        "hoard",
        "big_file",
        "descriptors",
        "chatter",
        "closed_link",
        "break_out",
    ] = field(default="busy", metadata={"description": "What it does."})
    threads: int = field(default=64, metadata={"ge": 1, "le": 512, "description": "Threads that compute: kind `busy`."})


LANE = "wait"


def outcomes(params):
    return {"done": ("forbidden", "It came to its end."), "kept_in": ("acceptable", "It could not get out.")}


def run(params, lab):
    return globals()[f"_{params.kind}"](params, lab) or {"outcome": "done"}


def _busy(params, lab):
    def spin():
        while True:
            pass

    for number in range(params.threads):
        lab.Thread(target=spin, name=f"busy-{number}").start()


def _c_call(params, lab):
    print("into C")
    time.sleep(0.1)  # for this to be told: afterwards nobody gets the GIL any more
    re.match("(a*)*b", "a" * 64)


def _deaf(params, lab):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        pass


def _exit(params, lab):
    print("finished: 1 of 2")
    time.sleep(0.1)
    os._exit(7)


def _segfault(params, lab):
    lab.Thread(target=time.sleep, args=(60,), name="bystander", daemon=True).start()
    time.sleep(0.1)
    ctypes.string_at(0)


def _fork_bomb(params, lab):
    """Two to the sixth processes, each in a session of its own, most of them orphans."""
    print("forking", flush=True)
    for _ in range(6):
        if os.fork() == 0:
            os.setsid()
        elif os.fork() == 0:
            break
    time.sleep(60)


def _hoard(params, lab):
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


def _big_file(params, lab):
    with open("big", "wb") as file:
        while True:
            file.write(bytes(1 << 20))


def _descriptors(params, lab):
    kept = []
    while True:
        kept.append(os.open(os.devnull, os.O_RDONLY))


def _chatter(params, lab):
    def talk():
        while True:
            print("and another thing")
            os.write(2, b"and from C\n")

    for number in range(3):
        lab.Thread(target=talk, name=f"talker-{number}").start()


def _closed_link(params, lab):
    os.closerange(0, 64)
    while True:
        pass


def _break_out(params, lab):
    """Try what walls are there for, and say what worked."""
    tries = {
        "write elsewhere": lambda: open("/var/tmp/threadlab-was-here", "w").close(),
        "connect elsewhere": lambda: socket.create_connection(("192.0.2.1", 80), 0.2),
        "kill the parent": lambda: os.kill(os.getppid() or 1, signal.SIGKILL),
        "become another user": lambda: os.setuid(65534),
    }
    worked = [name for name, attempt in tries.items() if _works(attempt)]
    return {"outcome": "done" if worked else "kept_in", "worked": worked, "threads": threading.active_count()}


def _works(attempt):
    try:
        attempt()
    except OSError:
        return False
    return True
