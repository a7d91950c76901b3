"""The package as a whole: what its import costs, and the one version that it has."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import latflow

HEAVY = {"matplotlib", "pandas", "pydantic", "pyerrors", "rich", "scipy", "typer", "xarray", "zarr"}


def test_import_loads_no_heavy_library():
    code = "import latflow, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & set(loaded.split())


def test_versions_agree():
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    assert version("latflow") == latflow.__version__
    assert f"\nversion: {latflow.__version__}\n" in citation


USER = """
import torch
import latflow as lf

action = lf.actions.Phi4((8, 8), m2=-4.0, lam=8.0)
reveal_type(action(torch.zeros(2, 8, 8)))
reveal_type(lf.analysis.measure([1.0]))
reveal_type(lf.Run.open("run").path)
reveal_type(lf.flows.spline_flow((8, 8)))
lf.export(lf.Run.open("run"), "chains.nc", chain="neither")
"""


def test_a_type_checker_knows_the_public_names(tmp_path):
    (tmp_path / "user.py").write_text(USER, encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    told = json.loads(done.stdout)["generalDiagnostics"]
    types = [re.search(r'is "(.*)"$', one["message"])[1] for one in told if one["severity"] == "information"]
    assert types == ["Tensor", "Measurement", "Path", "Flow"]
    (error,) = [one for one in told if one["severity"] == "error"]
    assert error["rule"] == "reportArgumentType"


def test_the_changelog_begins_with_this_version_or_what_is_not_released():
    text = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[([^]]+)\]", text, re.MULTILINE)[1] in ("Unreleased", latflow.__version__)
