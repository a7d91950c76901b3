"""Processes that die: kill −9, Ctrl-C and a disk that is full, each followed by the same command."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from latflow.cli import app
from latflow.runs import Run
from small_runs import SMALL, assert_same, outcome, visible_steps

LONGER = [
    *SMALL,
    "training.steps=200",
    "training.checkpoint_every=30",
    "sampling.steps=120",
]
"""Long enough to be met in the middle."""


def command(path, changes):
    options = [part for change in changes for part in ("-o", change)]
    return ["sample", "phi4-quick", *options, "--out", str(path)]


def start(path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "latflow", *command(path, LONGER)]
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def hit(path, ready, signum):
    """Start the command, send it a signal as soon as `ready()`, and return its exit code and what it said."""
    deadline = time.monotonic() + 120
    with start(path) as process:
        try:
            while not ready():
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, "the command came to nothing"
                time.sleep(0.02)
            process.send_signal(signum)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, said


def lines(path):
    history = path / "history.jsonl"
    return history.read_bytes().splitlines() if history.exists() else []


def test_whatever_ends_it_the_numbers_are_the_same(tmp_path):
    undisturbed, path = tmp_path / "undisturbed", tmp_path / "run"
    assert CliRunner().invoke(app, command(undisturbed, LONGER)).exit_code == 0

    code, said = hit(path, lambda: len(lines(path)) >= 40, signal.SIGINT)
    assert code == 130
    assert "everything is saved, and the same command goes on" in said
    assert "Traceback" not in said
    stopped = len(lines(path))
    assert 40 <= stopped == Run.open(path).trained_steps < 200

    code, _ = hit(path, lambda: len(lines(path)) >= stopped + 30, signal.SIGKILL)
    assert code == -signal.SIGKILL
    # the last line may have been cut off: nobody was told of it
    kept = [line for line in lines(path) if line.endswith(b"}")]
    assert [json.loads(line)["step"] for line in kept] == list(range(1, len(kept) + 1))
    assert len(kept) < 200

    code, _ = hit(path, lambda: visible_steps(path, "model") >= 30, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert lines(path)[: len(kept)] == kept
    before, steps = Run.open(path).series("model"), Run.open(path).sampling_info("model")["steps"]
    assert 20 <= steps < 120
    assert {len(values) for values in before.values()} == {steps}

    assert CliRunner().invoke(app, command(path, LONGER)).exit_code == 0
    after = Run.open(path).series("model")
    for name, values in before.items():
        assert (after[name][:steps] == values).all()
    assert_same(outcome(path), outcome(undisturbed))


@pytest.fixture
def small_disk(tmp_path):
    """A disk that is full after some hundred kilobytes, and a function that makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    try:
        yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("filled", ["while training", "while sampling"])
def test_a_disk_that_is_full(tmp_path, small_disk, filled):
    disk, enlarge = small_disk
    undisturbed, path = tmp_path / "undisturbed", disk / "run"
    assert CliRunner().invoke(app, command(undisturbed, SMALL)).exit_code == 0
    ballast = disk / "ballast"
    if filled == "while sampling":
        Run.create(path, Run.open(undisturbed).config).train()
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(bytes(free - 40 * 1024))

    result = CliRunner().invoke(app, command(path, SMALL))
    assert result.exit_code == 74, result.output
    assert result.stderr.splitlines()[-1].startswith("latflow: ")
    assert "No space left on device" in result.stderr
    assert "free some space, and the same command goes on" in result.stderr
    assert "Traceback" not in result.output
    enlarge()
    assert CliRunner().invoke(app, command(path, SMALL)).exit_code == 0
    assert_same(outcome(path), outcome(undisturbed))
