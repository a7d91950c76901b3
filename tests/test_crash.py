"""Processes that die: kill −9, Ctrl-C and a disk that is full, each followed by the same command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from latflow.cli import app
from latflow.runs import Run
from latflow.runs.place import digests_in
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


def sampled(path, changes):
    """What no disturbed run may differ from."""
    assert CliRunner().invoke(app, command(path, changes)).exit_code == 0
    return path


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


@pytest.fixture(scope="module")
def undisturbed_longer(tmp_path_factory):
    return sampled(tmp_path_factory.mktemp("longer") / "run", LONGER)


def test_whatever_ends_it_the_numbers_are_the_same(tmp_path, undisturbed_longer):
    path = tmp_path / "run"
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
    assert_same(outcome(path), outcome(undisturbed_longer))


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


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return sampled(tmp_path_factory.mktemp("small") / "run", SMALL)


def fill(disk, kilobytes):
    """Leave no more than so much of a disk."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(bytes(free - kilobytes * 1024))


def assert_told_full(result):
    assert result.exit_code == 74, result.output
    assert result.stderr.splitlines()[-1].startswith("latflow: ")
    assert "No space left on device" in result.stderr
    assert "free some space, and the same command goes on" in result.stderr
    assert "Traceback" not in result.output


def left_over(folder):
    """What is left half written."""
    return [file for file in folder.rglob("*") if file.name.startswith(".") and file.name.endswith(".tmp")]


@pytest.mark.parametrize("stage", ["training", "sampling"])
def test_a_disk_that_is_full(small_run, small_disk, stage):
    disk, enlarge = small_disk
    path = disk / "run"
    if stage == "sampling":
        Run.create(path, Run.open(small_run).config).train()
    fill(disk, 40)
    assert_told_full(CliRunner().invoke(app, command(path, SMALL)))
    enlarge()
    assert CliRunner().invoke(app, command(path, SMALL)).exit_code == 0
    assert_same(outcome(path), outcome(small_run))


@pytest.mark.parametrize(
    ("words", "kilobytes", "made"),
    [
        (["run"], 0, "results.json"),
        (["run"], 64, "report.html"),
        (["report"], 0, "results.json"),
        (["report"], 64, "report.html"),
        (["export", "record.zip", "--archive"], 16, "record.zip"),
        (["export", "chains.nc"], 0, "chains.nc"),
    ],
)
def test_a_disk_that_is_full_when_all_is_sampled(small_run, small_disk, words, kilobytes, made):
    """Nothing half written appears, the numbers are all there, and with some space the command ends well."""
    disk, enlarge = small_disk
    enlarge()
    path = shutil.copytree(small_run, disk / "run")
    first, *more = words
    typed = [first, str(path), *(word if word.startswith("-") else str(path / word) for word in more)]
    if "--archive" in words:
        assert CliRunner().invoke(app, ["report", str(path)]).exit_code == 0
    fill(disk, kilobytes)
    assert_told_full(CliRunner().invoke(app, typed))
    assert not (path / made).exists()
    assert left_over(disk) == []
    (disk / "ballast").unlink()
    assert CliRunner().invoke(app, typed).exit_code in (0, 3)
    assert (path / made).is_file()
    assert_same(outcome(path), outcome(small_run))


def test_a_verdict_that_cannot_be_kept_is_shown(small_run, small_disk):
    disk, enlarge = small_disk
    enlarge()
    path = shutil.copytree(small_run, disk / "run")
    fill(disk, 0)
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert result.exit_code in (0, 3)
    assert "is not kept" in result.stderr
    assert "validat" in result.stdout.splitlines()[-1]
    assert not (path / "results.json").exists()
    assert left_over(disk) == []


def test_two_commands_on_one_folder(tmp_path, undisturbed_longer):
    """While a run is held in its middle a second is refused, a verdict judges what is there, and both change
    nothing."""
    path = tmp_path / "run"
    with start(path) as process:
        try:
            deadline = time.monotonic() + 120
            while visible_steps(path, "model") < 60:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, "the command came to nothing"
                time.sleep(0.02)
            process.send_signal(signal.SIGSTOP)
            second = CliRunner().invoke(app, command(path, LONGER))
            assert second.exit_code == 2
            assert "is in use by another process: wait until it has ended" in second.stderr
            verdict = CliRunner().invoke(app, ["report", str(path)])
            assert verdict.exit_code == 0, verdict.output
            early = json.loads((path / "results.json").read_text())
            process.send_signal(signal.SIGCONT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert_same(outcome(path), outcome(undisturbed_longer))
    # the verdict knows that it is of other numbers than those that are there now
    assert early["checkpoints"] != digests_in(path)
