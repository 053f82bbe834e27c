"""The walls by themselves, in processes of their own: what they do where something goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.executors.helpers import process_lives
from tests.support import wait_until

_INIT_OF_A_HASTY_PARENT = """
import os
from service.child import walls

over, parent_lives = os.pipe()
die_with_parent = walls.die_with_parent

def too_late():
    os.close(parent_lives)
    os.read(over, 1)
    die_with_parent()

walls.die_with_parent = too_late
print(walls._start_init()[0])
"""


def run_python(code: str) -> str:
    """Return what a program prints; what it leaves behind may go on with its descriptors."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        said = program.stdout.readline()
    assert 0 == program.returncode
    return said


def test_a_parent_that_ends_before_its_init_is_ready() -> None:
    """Process 1 ends with its parent, even with one that had ended before it could say so to the kernel."""
    init = int(run_python(_INIT_OF_A_HASTY_PARENT))
    try:
        wait_until(lambda: not process_lives(init), 5.0)
    finally:
        if process_lives(init):
            os.kill(init, signal.SIGKILL)
