"""Benchmarks that nobody runs break in silence."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_what_a_gpu_is_asked_for_runs_on_a_cpu():
    """Five benchmarks, a table of a paper, and the tests, which are skipped; nothing is written."""
    before = (BENCHMARKS / "RESULTS.md").read_bytes()
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--quick"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=BENCHMARKS.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("### ") == 7
    assert (BENCHMARKS / "RESULTS.md").read_bytes() == before
