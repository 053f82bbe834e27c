"""The program of the long load, as it stands: it judges by itself, and what it finds wrong fails here.

Beside other tests it can only be asked to look for what is wrong, not for what is slow; and where jobs pile up, memory
for them is used once.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import CI
from tests.system.server import ROOT, plain_environment

SECONDS = 120 if CI else 15
GENEROUS = ["--p99-ms", "60000", "--memory-mb", "32"]  # chosen: far beyond what four busy workers beside it cost


@pytest.mark.timeout(900)
def test_a_load_with_accidents(tmp_path: Path) -> None:
    """Children and fork servers are killed and clients vanish: no job is lost or told wrongly, and nothing grows."""
    command = [sys.executable, "-m", "benchmarks.soak", "--seconds", str(SECONDS), *GENEROUS]
    environment = plain_environment(tmp_path)
    ended = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "  nothing is wrong" in ended.stdout.splitlines(), ended.stdout + ended.stderr  # with the seed
    assert 0 == ended.returncode
