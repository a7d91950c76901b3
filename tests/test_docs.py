"""What the page on theories of one's own shows is what it says: its files are written and run."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latflow import cli
from latflow.config import load_config
from latflow.runs import Run

PAGE = Path(__file__).parents[1] / "docs" / "own.md"
SHORT = ["training.steps=60", "sampling.steps=150", "beside.steps=150", "compute.threads=1"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of the page; blocks of one name follow each other."""
    folder = tmp_path_factory.mktemp("own")
    blocks = re.findall(
        r"```\w+\n# (\S+\.(?:py|toml))\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert {name for name, _ in blocks} == {"own.py", "own.toml", "layers.toml"}
    for name, text in blocks:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(text)
    return folder


@pytest.mark.parametrize("name", ["own", "layers"])
def test_the_page_runs(files, tmp_path, name):
    options = [part for change in SHORT for part in ("-o", change)]
    out = tmp_path / name
    result = CliRunner().invoke(cli.app, ["run", str(files / f"{name}.toml"), *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(out / "report.html")
    if name == "layers":
        assert "⟨φ⁴⟩" in result.stdout
        flow = Run.open(out).model()
        assert any("Neighbours" in type(part).__name__ for part in flow.modules())
        assert any("Sinh" in type(part).__name__ for part in flow.modules())


def test_a_wrong_layer_of_the_page_is_told(files, tmp_path):
    """With the sign of its log-determinant turned, the layer is not sampled with in silence."""
    text = (files / "own.py").read_text(encoding="utf-8")
    wrong = text.replace("return y, torch.log(torch.cosh", "return y, -torch.log(torch.cosh")
    assert wrong != text
    (tmp_path / "own.py").write_text(wrong, encoding="utf-8")
    (tmp_path / "layers.toml").write_text(
        (files / "layers.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    options = [part for change in SHORT for part in ("-o", change)]
    path = tmp_path / "run"
    result = CliRunner().invoke(cli.app, ["run", str(tmp_path / "layers.toml"), *options, "--out", str(path)])
    assert result.exit_code == 1, result.output
    assert "FAILED  log-determinant is the Jacobian's" in result.stdout


def test_what_the_page_says_is_refused(files):
    with pytest.raises(Exception, match=r"action\.lam: expected greater than 0, got -1"):
        load_config(files / "own.toml", ["action.lam=-1"])
