"""The memory budget is kept: measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the resident set from Linux's /proc")
def test_budget_is_kept():
    """600 x 600 pixels from a reference of that size, which take 430 MiB in one piece."""
    budget = 304
    program = Path(__file__).with_name("measure_memory.py")
    output = subprocess.run(
        [sys.executable, program, str(budget), "150", "600", "6"], capture_output=True, text=True, check=True
    ).stdout
    peak, _, tiles = map(int, output.split())
    assert peak <= budget
    assert tiles > 1
