"""A record for an archive: whole, verifiable by anybody, and the same for the same run."""

import hashlib
import json
import re
import shutil
import subprocess
import zipfile

import pytest
from typer.testing import CliRunner

import latflow as lf
from latflow import cli
from latflow.config import load_config
from latflow.errors import RunFolderError
from latflow.exports.record import safe
from latflow.runs import Run
from latflow.runs.lock import locked
from small_runs import SMALL

OWN = """
from dataclasses import dataclass

import latflow as lf
from latflow.types import Lattice


@dataclass(frozen=True)
class Quartic(lf.actions.Action):
    lattice: Lattice
    lam: float
    kind = lf.fields.SCALAR

    def __call__(self, x):
        return (x**2 + self.lam * x**4).flatten(1).sum(1)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    opened = Run.create(tmp_path_factory.mktemp("archive") / "run", load_config("phi4-quick", SMALL))
    opened.train()
    opened.sample()
    opened.sample_beside()
    return opened


def extracted(file, folder):
    with zipfile.ZipFile(file) as archive:
        assert all(re.fullmatch(r"[\w.+-]+(/[\w.+-]+)+", name, re.ASCII) for name in archive.namelist())
        archive.extractall(folder)
    (root,) = folder.iterdir()
    return root


def entities(root):
    graph = json.loads((root / "data" / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    return {one["@id"]: one for one in graph}


@pytest.mark.parametrize("options", [{}, pytest.param({"with_chains": True}, marks=pytest.mark.slow)])
def test_the_same_run_makes_the_same_bytes(run, tmp_path, options):
    for name in ("one.zip", "other.zip"):
        lf.export(run, tmp_path / name, **options)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_every_file_is_in_the_manifest_with_its_sum(run, tmp_path):
    lf.export(run, tmp_path / "record.zip", with_chains=True)
    root = extracted(tmp_path / "record.zip", tmp_path / "there")
    assert root.name == "small"
    for manifest, files in (
        ("manifest-sha256.txt", {one for one in (root / "data").rglob("*") if one.is_file()}),
        (
            "tagmanifest-sha256.txt",
            {root / name for name in ("bagit.txt", "bag-info.txt", "manifest-sha256.txt")},
        ),
    ):
        lines = (root / manifest).read_text(encoding="utf-8").splitlines()
        sums = dict(reversed(line.split("  ")) for line in lines)
        assert {root / name for name in sums} == files
        for name, digest in sums.items():
            assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest
    size, count = re.search(r"Payload-Oxum: (\d+)\.(\d+)", (root / "bag-info.txt").read_text()).groups()
    sizes = [file.stat().st_size for file in (root / "data").rglob("*") if file.is_file()]
    assert (int(size), int(count)) == (sum(sizes), len(sizes))


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum on this machine")
def test_sha256sum_verifies_a_record_and_finds_a_change(run, tmp_path):
    def verified():
        command = ["sha256sum", "--strict", "-c", "manifest-sha256.txt"]
        return subprocess.run(command, cwd=root, capture_output=True, text=True).returncode

    lf.export(run, tmp_path / "record.zip")
    root = extracted(tmp_path / "record.zip", tmp_path / "there")
    assert verified() == 0
    results = root / "data" / "results.json"
    results.write_text(results.read_text(encoding="utf-8").replace("0.1", "0.2", 1), encoding="utf-8")
    assert verified() == 1


def test_the_metadata_say_what_made_what(run, tmp_path):
    lf.export(run, tmp_path / "record.zip", with_chains=True)
    root = extracted(tmp_path / "record.zip", tmp_path / "there")
    found = entities(root)
    assert found["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    parts = {one["@id"] for one in found["./"]["hasPart"]}
    payload = {file.relative_to(root / "data").as_posix() for file in (root / "data").rglob("*.*")}
    assert parts == payload - {"ro-crate-metadata.json"}
    for name in parts:
        assert found[name]["sha256"] == hashlib.sha256((root / "data" / name).read_bytes()).hexdigest()
    action = found["#run"]
    assert action["instrument"] == [{"@id": "#latflow"}]
    assert {"@id": "config.toml"} in action["object"]
    assert {"@id": "chains.nc"} in action["result"]
    assert not {one["@id"] for one in action["object"]} & {one["@id"] for one in action["result"]}
    assert found["#latflow"]["version"] == lf.__version__
    assert found["#latflow"].get("identifier") == run.info.get("commit")
    assert found["#setting-seed"]["value"] == 1
    assert found["#setting-m2"]["value"] == -4.0
    results = json.loads((root / "data" / "results.json").read_text(encoding="utf-8"))
    row = next(row for row in results["rows"] if row["name"] == "phi_squared")
    told = lf.analysis.Measurement.parse(found["#result-phi_squared-beside"]["value"])
    assert told.value == pytest.approx(row["values"]["beside"]["value"], abs=told.error)
    # every entity that is referred to is there
    referred = set(re.findall(r'\{\s*"@id": "([^"]+)"\s*\}', json.dumps(list(found.values()))))
    assert referred - set(found) == {"https://w3id.org/ro/crate/1.1"}


@pytest.mark.slow
def test_results_of_an_earlier_length_are_brought_up_to_date(tmp_path):
    changes = ["model=null", "beside.steps=40", "beside.block=20"]
    path = tmp_path / "run"
    for steps, name in ((40, "short.zip"), (80, "long.zip")):
        config = load_config("phi4-quick", [*changes, f"beside.steps={steps}"])
        opened = Run.create_or_resume(path, config)
        opened.sample_beside()
        lf.export(opened, tmp_path / name)
    numbers = []
    for name in ("short", "long"):
        root = extracted(tmp_path / f"{name}.zip", tmp_path / name)
        results = json.loads((root / "data" / "results.json").read_text(encoding="utf-8"))
        numbers.append(results["rows"][0]["values"]["beside"]["n"])
        assert "weights.safetensors" not in entities(root)
    assert numbers[1] == 2 * numbers[0]


def test_code_of_ones_own_goes_along_under_a_safe_name(tmp_path):
    file = tmp_path / "mein φ (2).py"
    file.write_text(OWN, encoding="utf-8")
    table = tmp_path / "own.toml"
    table.write_text(
        f'[action]\ntype = "{file}:Quartic"\nlattice = [4, 4]\nlam = 0.5\n'
        "[beside]\nsteps = 30\nchains = 3\nthermalisation = 10\n",
        encoding="utf-8",
    )
    opened = Run.create(tmp_path / "run", load_config(table))
    opened.sample_beside()
    lf.export(opened, tmp_path / "record.zip")
    root = extracted(tmp_path / "record.zip", tmp_path / "there")
    copy = root / "data" / "code" / "mein____2_.py"
    assert copy.read_text(encoding="utf-8") == OWN
    found = entities(root)
    assert "mein φ (2).py" in found["code/mein____2_.py"]["description"]
    assert {"@id": "code/mein____2_.py"} in found["#run"]["object"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b/c", "a_b_c"),
        ("../../x", "_._.._x"),
        ("-rf", "_rf"),
        ("φ4\n.py", "_4_.py"),
        ("phi4-8x8", "phi4-8x8"),
    ],
)
def test_safe_names(name, expected):
    assert safe(name) == expected
    assert not safe(name).startswith((".", "-", "/"))


def test_what_is_refused(run, tmp_path):
    empty = Run.create(tmp_path / "empty", load_config("phi4-quick", SMALL))
    with pytest.raises(RunFolderError, match="holds no chain yet"):
        lf.export(empty, tmp_path / "record.zip")
    with locked(run.path), pytest.raises(RunFolderError, match="in use by another process"):
        lf.export(run, tmp_path / "record.zip")
    with pytest.raises(ValueError, match=r"expected a record .* got 'c\.nc'"):
        lf.export(run, tmp_path / "c.nc", with_chains=True)
    result = CliRunner().invoke(
        cli.app, ["export", "--archive", str(run.path), str(tmp_path / "c.nc"), "--overwrite"]
    )
    assert result.exit_code == 2
    assert "ends in .zip" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty"]
