"""What the page on one's own configurations shows runs, line by line, with the statuses that it says."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ensembles import phi4
from latflow.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "howto-judge.md"


@pytest.mark.slow
def test_the_lines_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("published.npy", phi4().numpy())
    lines = re.findall(r"^    latflow (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 6
    for line in lines:
        one_thread = ["-o", "compute.threads=1"] if line.startswith("run") else []
        result = CliRunner().invoke(app, [*shlex.split(line), *one_thread])
        assert result.exit_code == int("judged/off" in line), (line, result.output)
    assert "fit beta: 0.63" in (tmp_path / "judged" / "off" / "report.html").read_text(encoding="utf-8")
