"""The package as a whole: what its import costs, and the one version that it has."""

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
