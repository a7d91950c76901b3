"""The command line in odd places: any folder, any locale, any moment of a signal, any closed stream."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latflow import cli
from latflow.cli import explain, stages
from latflow.runs import Run
from latflow.terminal import SIGNALS, show_what_it_can
from small_runs import SMALL, outcome

LONG = [part for change in SMALL for part in ("-o", change)]
SHORT = [*LONG, "-o", "training.steps=4", "-o", "sampling.steps=50", "-o", "beside.steps=50"]
COMMAND = [sys.executable, "-m", "latflow"]


def latflow(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def spawned(*arguments, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # what ignores signals, such as nohup, hands that down
    return subprocess.Popen([*COMMAND, *map(str, arguments)], preexec_fn=caught, **(pipes | options))


def caught():
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)


# paths

NAMES = ["ü – φ⁴", "~", "x://y", "-x"]
MORE_NAMES = [
    "a b", "[a]", 'a"b', "n" * 200,
    "~x", "a:b", "a::b", "memory:", "a#b", "a%20b", "--", "a,b", "a'b", "a=b", "a?b", "a*b", "{0}", "$HOME",
    "a\\b", "samples.zarr", ".hidden", "a.zip", "1e5",
]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE_NAMES)])
def test_a_folder_may_have_any_name(tmp_path, monkeypatch, name):
    """All lies in that folder, wherever it is named from, and another working folder finds it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    path = Path("inner") / name
    result = latflow("sample", "phi4-quick", *SHORT, "--out", path)
    assert result.exit_code in (0, 3), result.output
    assert {file.name for file in path.iterdir()} >= {"config.toml", "samples.zarr", "checkpoints"}
    monkeypatch.chdir(tmp_path)
    moved = Path("work/inner") / name
    assert latflow("validate", moved).exit_code in (0, 3)
    assert latflow("export", moved, tmp_path / f"{name[:100]}.nc").exit_code == 0
    assert (tmp_path / f"{name[:100]}.nc").is_file()
    assert not list((tmp_path / "home").rglob("*.zarr"))


@pytest.mark.slow
def test_a_report_may_lie_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert latflow("run", "phi4-quick", *SHORT, "--out", "~ -ü%20[a]#{b}?:$x").exit_code in (0, 3)
    (path,) = (path for path in tmp_path.iterdir() if (path / "report.html").exists())
    assert path.name == "~ -ü%20[a]#{b}?:$x"
    assert list((path / "figures").glob("*.png"))


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    result = latflow("train", "phi4-quick", *SHORT, "--out", "~/x")
    assert result.exit_code in (0, 3), result.output
    assert (tmp_path / "home/x/config.toml").is_file()
    assert latflow("train", "~/x").exit_code == 0
    assert latflow("train", "phi4-quick", *SHORT, "--out", "~nobody-of-this-name/x").exit_code == 0
    assert (tmp_path / "~nobody-of-this-name/x/config.toml").is_file()


@pytest.mark.slow
def test_the_working_folder_may_change(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert latflow("run", "phi4-quick", *SHORT, "--out", "run").exit_code in (0, 3)
    expected = outcome(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "other")
    assert outcome(Path("../run")).keys() == expected.keys()


# what a terminal shows


def test_a_terminal_without_glyphs_gets_plain_ones(monkeypatch):
    class Terminal:
        encoding = "ascii"

        def reconfigure(self, errors):
            self.errors = errors

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    show_what_it_can()
    text = "⟨φ²⟩ = −0.31(4) σ, m_eff, é, ≤ 5·10⁻², \udcff, 漢"
    plain = text.encode("ascii", terminal.errors).decode()
    assert plain == "<phi2> = -0.31(4) sigma, m_eff, e, <= 5.10-2, ?, ?"


@pytest.mark.parametrize(
    "locale",
    [
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
        pytest.param(
            {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.slow
        ),
        pytest.param({"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.slow),
    ],
    ids=["ascii", "posix", "latin-1"],
)
def test_no_locale_ends_a_run(tmp_path, locale):
    process = spawned("run", "phi4-quick", *SHORT, "--out", tmp_path / "ü", env=os.environ | locale)
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, 3), err
    assert b"validat" in out
    assert b"Traceback" not in err
    page = (tmp_path / "ü" / "report.html").read_text(encoding="utf-8")
    assert "⟨φ²⟩" in page
    assert Run.open(tmp_path / "ü").written()["model"] == 50


def test_a_closed_pipe_has_a_status_of_its_own():
    with spawned("presets") as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


# signals


def ready(process):
    """Wait until the process has begun to catch signals, which Linux tells of it."""
    bit = 1 << (signal.SIGHUP - 1)
    for _ in range(600):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if any(line.startswith("SigCgt:") and int(line.split()[1], 16) & bit for line in lines):
            return
        time.sleep(0.02)
    raise AssertionError("the process catches no signals")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to see what is caught")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0, 3.0])
def test_a_signal_at_any_moment_is_one_line(tmp_path, signum, seconds):
    """Before the first import, while PyTorch is loaded, in the training, or wherever it is by then."""
    process = spawned("run", "phi4-quick", *LONG, "-o", "training.steps=100000", "--out", tmp_path / "run")
    ready(process)
    time.sleep(seconds)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    words = err.decode()
    assert process.returncode == 128 + signum, words
    assert "Traceback" not in words
    assert words.count("latflow: stopped") == 1


# devices, memory, disks


@pytest.mark.parametrize(
    "device", ["mps", "xpu", "meta", "gpu", "cuda:", "cuda:-1", "cuda:99999", "cpu:0", ""]
)
def test_a_device_that_is_none_is_told_at_once(device, tmp_path):
    result = latflow("run", "phi4-quick", "-o", f"compute.device='{device}'", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "compute.device: expected 'auto', 'cpu', 'cuda' or 'cuda:<number>'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_lack_of_memory_is_told(monkeypatch, tmp_path):
    for error in (
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1"),
    ):

        def broken(*_, error=error):
            raise error

        monkeypatch.setattr(stages, "train", broken)
        result = latflow("train", "phi4-quick", *SHORT, "--out", tmp_path / "run")
        assert result.exit_code == 2
        assert "there is not enough memory" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_verdict_is_printed_where_it_cannot_be_kept(tmp_path, monkeypatch):
    assert latflow("run", "phi4-quick", *SHORT, "--out", tmp_path / "run").exit_code in (0, 3)

    def read_only(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "results.json")

    monkeypatch.setattr(Run, "save_results", read_only)
    result = latflow("validate", tmp_path / "run")
    assert result.exit_code in (0, 3)
    assert "validat" in result.stdout.splitlines()[-1]
    assert "the verdict is not kept in" in result.stderr
    assert latflow("report", tmp_path / "run").exit_code == explain.EXIT_DISK


@pytest.mark.slow
def test_an_export_replaces_no_file(tmp_path):
    path, target = tmp_path / "run", tmp_path / "chains.nc"
    assert latflow("run", "phi4-quick", *SHORT, "--out", path).exit_code in (0, 3)
    target.write_text("precious")
    result = latflow("export", path, target)
    assert result.exit_code == 2
    assert "is there already: choose another file, or add --overwrite" in result.stderr
    assert target.read_text() == "precious"
    assert latflow("export", path, target, "--overwrite").exit_code == 0
    assert target.stat().st_size > 1000
