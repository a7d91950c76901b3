"""Scans in processes of their own: several runs at once, stopped by signals and by kill −9."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from latflow.runs import Run

SPINS = """
[action]
type = "ising"
lattice = [4, 4]
beta = [0.3, 0.4]
[beside]
steps = 1000
chains = 16
thermalisation = 20
block = 40
[compute]
threads = 1
"""
RUNS = ("beta=0.3", "beta=0.4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Both runs without a stop, one after the other in this process and without pages."""
    from latflow.config import load_tables, scan_of
    from latflow.scans import ScanFolder

    folder = tmp_path_factory.mktemp("whole")
    (folder / "spins.toml").write_text(SPINS)
    scan = ScanFolder(folder / "scan", scan_of(load_tables(folder / "spins.toml")))
    for run in scan.runs:
        Run.create(run.path, run.config).sample_beside()
    return {run.name: Run.open(run.path).series("beside") for run in scan.runs}


def begun(folder, *words):
    """`latflow run` on a scan in a process, with its own session so that signals reach it alone."""
    (folder / "spins.toml").write_text(SPINS)
    command = [
        sys.executable,
        "-m",
        "latflow",
        "run",
        folder / "spins.toml",
        "--out",
        folder / "scan",
        *words,
    ]
    return subprocess.Popen(
        list(map(str, command)),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(*files):
    end = time.monotonic() + 180
    while not all(file.exists() for file in files):
        assert time.monotonic() < end, f"none of {files} after three minutes"
        time.sleep(0.02)


def assert_whole(folder, whole):
    for name in RUNS:
        found = Run.open(folder / "scan" / name).series("beside")
        for key, values in whole[name].items():
            np.testing.assert_array_equal(found[key], values)


@pytest.mark.slow
def test_ctrl_c_stops_all_that_run_at_once_and_the_same_command_goes_on(tmp_path, whole):
    first = begun(tmp_path, "--jobs", "2")
    wait_for(*(tmp_path / "scan" / name / "checkpoints" / "beside.safetensors" for name in RUNS))
    first.send_signal(signal.SIGINT)
    _, told = first.communicate(timeout=180)
    assert first.returncode == 130, told
    assert "2 runs, 2 of action.beta, 2 at once" in told
    assert "everything is saved, and the same command goes on from here" in told
    for name in RUNS:
        assert 0 <= Run.open(tmp_path / "scan" / name).sampling_info("beside")["steps"] < 1000
    second = begun(tmp_path, "--jobs", "2")
    out, told = second.communicate(timeout=400)
    assert second.returncode == 0, told
    assert "beta=0.3  Wolff" in told
    assert "beta=0.4: validated" in told
    assert out.splitlines()[-1] == str(tmp_path / "scan" / "scan.html")
    assert_whole(tmp_path, whole)


@pytest.mark.slow
def test_a_scan_that_was_killed_goes_on(tmp_path, whole):
    killed = begun(tmp_path)
    wait_for(tmp_path / "scan" / RUNS[1] / "checkpoints" / "beside.safetensors")
    killed.kill()
    killed.communicate()
    second = begun(tmp_path)
    _, told = second.communicate(timeout=400)
    assert second.returncode == 0, told
    assert "run 1 of 1: beta=0.4" in told
    assert_whole(tmp_path, whole)


@pytest.mark.slow
def test_the_worst_of_the_processes_is_told(tmp_path):
    (tmp_path / "scan").mkdir()
    done = begun(tmp_path, "--jobs", "2", "-o", "beside.steps=6", "-o", "beside.chains=1")
    _, told = done.communicate(timeout=400)
    assert done.returncode == 3, told
    assert "beta=0.3: validation INCONCLUSIVE" in told
