"""The command line: what each command leaves behind, and what it says when something is wrong."""

import json
import re
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import latflow
from latflow import cli
from latflow.cli import stages
from latflow.cli.progress import progress
from latflow.config import load_config, preset_names
from latflow.runs import Run
from small_runs import SMALL


def latflow_command(*arguments):
    """The result of a command in this process; its streams are no terminal."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def changes(*more):
    return [part for change in (*SMALL, *more) for part in ("-o", change)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from the first command to its report, and what was printed."""
    path = tmp_path_factory.mktemp("whole") / "run"
    steps = (
        "training.steps=60",
        "sampling.steps=500",
        "sampling.block=100",
        "beside.steps=150",
        "beside.thermalisation=30",
    )
    return path, latflow_command("run", "phi4-quick", *changes(*steps), "--out", path)


def test_help_needs_no_torch():
    code = "import latflow.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help_comes_within_a_second():
    def seconds():
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "latflow", "--help"], check=True, capture_output=True)
        return time.perf_counter() - start

    # the fastest of a few: other processes share the machine
    assert min(seconds() for _ in range(3)) < 1


def test_version():
    assert latflow_command("--version").stdout == f"latflow {latflow.__version__}\n"


def test_presets_are_listed():
    printed = latflow_command("presets").stdout
    assert [line.split()[0] for line in printed.splitlines()] == preset_names()
    assert load_config("phi4-8x8").description in printed


def test_every_command_explains_itself():
    for command in ("run", "train", "sample", "validate", "report", "export", "presets"):
        result = latflow_command(command, "--help")
        assert result.exit_code == 0
        assert command in latflow_command("--help").stdout


def test_run_ends_with_the_path_of_its_report(whole):
    path, result = whole
    assert result.exit_code == 0, result.output
    *_, verdict, last = result.stdout.splitlines()
    assert verdict == "validated"
    assert Path(last) == path / "report.html"
    assert Path(last).is_file()
    results = json.loads((path / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["verdict"] == "passed"
    for row in results["rows"]:
        assert row["label"] in result.stdout


def test_run_says_how_far_it_is(whole):
    _, result = whole
    lines = result.stderr.splitlines()
    expected = [
        r"train  60/60  ESS 0\.\d+  F_q \S+  in \d+:\d\d",
        r"sample  500/500  acceptance 0\.\d+  ESS 0\.\d+  in \d+:\d\d",
        r"HMC  150/150  acceptance \S+  in \d+:\d\d",
    ]
    assert len(lines) == len(expected), lines
    assert all(map(re.fullmatch, expected, lines)), lines


def test_a_long_stage_says_once_a_minute_how_far_it_is(monkeypatch):
    text, now = StringIO(), iter([0.0, 0.0, 59.0, 61.0, 90.0, 130.0, 200.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with progress("train", 60, console=Console(file=text, width=100)) as advance:
        for done in (10, 20, 30, 40, 50, 60):
            advance(done, f"ESS 0.{done}")
    assert text.getvalue().splitlines() == [
        "train  30/60  ESS 0.30  1:32 left",
        "train  50/60  ESS 0.50  0:32 left",
        "train  60/60  ESS 0.60  in 3:20",
    ]


def test_quiet_prints_the_last_lines_alone(whole):
    path, _ = whole
    result = latflow_command("run", path, "--quiet")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["validated", str(path / "report.html")]


def test_validate_fails_where_a_number_is_wrong(whole):
    path, _ = whole
    config = path / "config.toml"
    right = config.read_text()
    try:
        config.write_text(right.replace("2.405139(1)", "3.405139(1)"))
        result = latflow_command("validate", path)
    finally:
        config.write_text(right)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "validation FAILED"
    assert latflow_command("validate", path).exit_code == 0


def test_stages_one_by_one(tmp_path):
    path = tmp_path / "run"
    result = latflow_command("train", "phi4-quick", *changes(), "--out", path)
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    assert Run.open(path).trained_steps == 20
    # a folder needs no repetition of what it was made with
    assert latflow_command("sample", path).exit_code == 0
    assert {len(values) for values in Run.open(path).series("beside").values()} == {25}
    target = tmp_path / "chains.nc"
    assert latflow_command("export", path, target).stdout == f"{target}\n"
    assert target.is_file()


def test_the_folder_is_named_after_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert latflow_command("train", "phi4-quick", *changes("training.steps=2")).stdout == "runs/small\n"
    assert Run.open(tmp_path / "runs" / "small").trained_steps == 2
    # a file with that name means that folder
    Path("small.toml").write_bytes(Path("runs/small/config.toml").read_bytes())
    assert "runs/small holds no chain yet" in latflow_command("report", "small.toml").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "phi5"), "the presets are free-16x16"),
        (("run", "phi4-quick", "-o", "training.bacth=3"), "training.bacth: unknown key; did you mean batch?"),
        (
            ("run", "phi4-quick", "-o", "training.batch=x"),
            "training.batch: expected a valid integer, got 'x'",
        ),
        (("run", "phi4-quick", "-o", "action.lattice=[3, 4]"), "a checkerboard needs even side"),
        (("run", "phi4-quick", "-o", "compute.device=cuda:77"), "CUDA devices here, got 'cuda:77'"),
        (("run", "."), "is no run: expected config.toml"),
        (("validate", "."), "is no run: expected config.toml"),
        (("report", "phi4-quick"), "expected the folder of a run at runs/phi4-quick"),
    ],
)
def test_wrong_input_is_one_message(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = latflow_command(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("latflow: ")
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_another_configuration_is_refused(whole):
    path, _ = whole
    for arguments in (("run", path, "-o", "seed=9"), ("run", "phi4-quick", "-o", "seed=9", "--out", path)):
        result = latflow_command(*arguments)
        assert result.exit_code == 2
        assert "seed: 1 and 9" in result.stderr


def test_nothing_to_report_yet(tmp_path):
    path = tmp_path / "run"
    latflow_command("train", "phi4-quick", *changes("training.steps=2"), "--out", path)
    for command in ("validate", "report"):
        result = latflow_command(command, path)
        assert result.exit_code == 2
        assert "holds no chain yet: `latflow sample" in result.stderr
    result = latflow_command("export", path, tmp_path / "chains.csv")
    assert result.exit_code == 2
    assert "ends in .nc" in " ".join(result.stderr.split())


def test_a_defect_of_the_program_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(stages, "train", broken)
    result = latflow_command("train", "phi4-quick", *changes(), "--out", tmp_path / "run")
    assert result.exit_code == 70
    assert "ZeroDivisionError" in result.stderr
    assert "please report it with the lines above" in result.stderr


def test_a_bar_on_a_terminal():
    text = StringIO()
    with progress("train", 10, console=Console(file=text, force_terminal=True, width=100)) as advance:
        advance(4, "ESS 0.400")
        advance(10, "ESS 0.900")
    assert "10/10" in text.getvalue()
    assert "left" in text.getvalue()
    assert "ESS 0.900" in text.getvalue()


def test_a_stage_that_is_done_shows_no_bar():
    text = StringIO()
    with progress("train", 10, console=Console(file=text, force_terminal=True, width=100)):
        pass
    assert "train" not in text.getvalue()
