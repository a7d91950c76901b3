"""What the page on exports shows is what happens: its commands and its blocks are run in their order."""

import os
import re
import shlex
import shutil
import subprocess
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latflow import cli
from latflow.analysis.autocorrelation import load_pyerrors

PAGE = Path(__file__).parents[1] / "docs" / "howto-export.md"
SHORT = [
    part
    for change in ("training.steps=20", "sampling.steps=200", "beside.steps=200", "compute.threads=1")
    for part in ("-o", change)
]
"""The run of the page in less time."""
_STEP = re.compile(r"```python\n(.*?)```|^    (\S[^\n]*)$", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    load_pyerrors()
    names, commands, blocks = {}, [], 0
    for block, command in _STEP.findall(PAGE.read_text(encoding="utf-8")):
        if block:
            blocks += 1
            if "arviz" in block and find_spec("arviz") is None:
                continue
            with warnings.catch_warnings():
                if "arviz" in block:  # it announces changes of its own
                    warnings.simplefilter("ignore")
                exec(compile(block, str(PAGE), "exec"), names)
            continue
        word, *arguments = shlex.split(command)
        commands.append(word)
        if word == "latflow":
            short = SHORT if arguments[0] == "run" else []
            result = CliRunner().invoke(cli.app, [*arguments, *short])
            assert result.exit_code in ((0, 3) if short else (0,)), result.output
        elif word == "cd":
            os.chdir(arguments[0])
        elif word == "unzip":
            shutil.unpack_archive(arguments[-1])
        elif shutil.which(word):
            subprocess.run([word, *arguments], check=True, capture_output=True)
    assert commands == ["latflow"] * 6 + ["unzip", "cd", "sha256sum"]
    assert blocks == 6
    assert "Binder cumulant" in capsys.readouterr().out
    assert names["mass"].dvalue > 0
    for obs, row in ((names["phi_squared"], "phi_squared"), (names["log_z"], "log_z")):
        tag = names["chains"]["draws"]["results"][row].tag
        assert obs.value == pytest.approx(tag["value"], rel=1e-10)
        assert obs.dvalue == pytest.approx(tag["error"], rel=1e-8)
