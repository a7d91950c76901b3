"""Files and names that mean harm: one line, nothing executed, no memory taken before sizes are checked."""

import json
import shutil
import struct
import subprocess
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from latflow import cli
from latflow.config import load_config
from latflow.ensembles import read_ensemble, stored_arrays
from latflow.errors import CheckpointError, ConfigError, EnsembleError, RunFolderError
from latflow.report.index import write_index
from latflow.report.page import environment
from latflow.runs import Run
from latflow.storage import load_tree
from latflow.theories import Phi4

OWN = """
from dataclasses import dataclass

import latflow as lf
from latflow.theories.base import Words
from latflow.types import Lattice

MARKUP = {markup!r}


@dataclass(frozen=True)
class Marked(lf.actions.Action):
    lattice: Lattice
    kind = lf.fields.SCALAR
    words = Words(MARKUP, MARKUP, MARKUP)

    def own_observables(self):
        mean = lambda x: x.flatten(1).mean(1)
        return (lf.observables.Observable("x", MARKUP, mean, slow=True, meaning=MARKUP),)

    def __call__(self, x):
        return (x**2 + x**4).flatten(1).sum(1)
"""

ACTION = Phi4((4, 4), m2=1.0, lam=0.0)
FIELDS = np.random.default_rng(1).normal(size=(20, 4, 4))
MARKUP = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


def npy(shape, descr="<f8"):
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header = header.ljust(-(-(len(header) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in members.items():
            archive.writestr(f"{name}.npy", contents)


def bomb(path):
    """A member whose entry in the zip claims as much as its header."""
    zipped(path, phi=npy((2**25 - 2, 4, 4)) + bytes(1000))
    contents = path.read_bytes()
    entry = contents.rindex(b"PK\x01\x02")
    path.write_bytes(contents[: entry + 24] + struct.pack("<I", 2**32 - 2) + contents[entry + 28 :])


def zarr_array(path, **changes):
    path.mkdir()
    table = {"zarr_format": 2, "shape": [20, 4, 4], "chunks": [20, 4, 4], "dtype": "<f8", "order": "C"}
    table |= {"compressor": None, "fill_value": 0, "filters": None} | changes
    (path / ".zarray").write_text(json.dumps(table))
    (path / "0.0.0").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")


def elsewhere(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("phi", shape=(4, 4, 4), dtype="f8", external=[("/etc/passwd", 0, 512)])


def virtual(path, source):
    layout = h5py.VirtualLayout(shape=FIELDS.shape, dtype="f8")
    layout[:] = h5py.VirtualSource(source, "phi", shape=FIELDS.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("phi", layout)


def empty(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("phi", shape=(10**12, 4, 4), chunks=(10**6, 4, 4), dtype="f8")


HOSTILE = {
    "a.npy terabytes": lambda path: path.write_bytes(npy((10**12, 4, 4)) + bytes(100)),
    "a.npy negative": lambda path: path.write_bytes(npy((-5, 4, 4)) + bytes(100)),
    "a.npy objects": lambda path: path.write_bytes(npy((3, 4, 4), "|O") + bytes(400)),
    "a.npy void": lambda path: path.write_bytes(npy((3, 4, 4), "|V8") + bytes(400)),
    "a.npy nested": lambda path: path.write_bytes(
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 200_000) + b"(" * 200_000
    ),
    "a.npz terabytes": lambda path: zipped(path, phi=npy((10**11, 4, 4)) + bytes(100)),
    "a.npz bomb": bomb,
    "a.npz many": lambda path: zipped(path, **{f"a{i}": npy((3,)) + bytes(24) for i in range(1001)}),
    "a.h5 terabytes": empty,
    "a.h5 of another file": elsewhere,
    "a.h5 virtual, outside": lambda path: virtual(path, "../other.h5"),
    "a.h5 virtual, gone": lambda path: virtual(path, "gone.h5"),
    "a.zarr terabytes": lambda path: zarr_array(path, shape=[10**12, 4, 4], chunks=[10**12, 4, 4]),
    "a.zarr terabyte chunk": lambda path: zarr_array(path, chunks=[10**10, 4, 4]),
    "a.zarr pickle": lambda path: zarr_array(path, dtype="|O", filters=[{"id": "pickle"}]),
    "a.zarr pickle of numbers": lambda path: zarr_array(path, filters=[{"id": "pickle"}]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_configurations_that_mean_harm_are_refused(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["phi"] = FIELDS
    path = tmp_path / "in" / what.split()[0]
    HOSTILE[what](path)
    tracemalloc.start()
    try:
        with pytest.raises(EnsembleError) as told:
            read_ensemble(path, ACTION)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    assert len(str(told.value)) < 2000
    assert not (tmp_path / "executed").exists()


def test_links_within_a_folder_are_followed(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["phi"] = FIELDS
    virtual(tmp_path / "a.h5", "other.h5")
    np.testing.assert_array_equal(read_ensemble(tmp_path / "a.h5", ACTION).fields[:, 0], FIELDS)
    zipped(tmp_path / "a.npz", **{"../../evil": npy(FIELDS.shape) + FIELDS.tobytes()})
    assert [one.name for one in stored_arrays(tmp_path / "a.npz")] == ["../../evil"]
    assert not list(tmp_path.parent.glob("evil*"))


def test_code_that_comes_with_data_is_not_run(tmp_path):
    np.save(tmp_path / "a.npy", FIELDS)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    side_car = {"action": {"type": f"{tmp_path}/evil.py:X", "lattice": [4, 4]}}
    (tmp_path / "a.npy.json").write_text(json.dumps(side_car))
    result = CliRunner().invoke(cli.app, ["judge", str(tmp_path / "a.npy")])
    assert result.exit_code == 2
    assert "names code" in result.stderr
    assert not (tmp_path / "executed").exists()


def safetensors(metadata):
    header = json.dumps({"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "contents",
    [
        struct.pack("<Q", 2**40) + b"{",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        safetensors({"latflow_tree": "[" * 100_000, "latflow_digest": "x"}),
        # by sha256 of the tree, as its own program would write it
        "nested",
    ],
    ids=["terabyte", "nested header", "nested tree", "nested tree with its digest"],
)
def test_a_checkpoint_that_means_harm_is_refused(tmp_path, contents):
    import hashlib

    if contents == "nested":
        tree = "[" * 100_000 + "]" * 100_000
        digest = hashlib.sha256(tree.encode()).hexdigest()
        contents = safetensors({"latflow_tree": tree, "latflow_digest": digest})
    (tmp_path / "a").write_bytes(contents)
    with pytest.raises(CheckpointError):
        load_tree(tmp_path / "a")


def test_a_key_of_very_many_parts_is_refused_at_once(tmp_path):
    (tmp_path / "a.toml").write_text(".".join("a" * 100_000) + " = 1\n")
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_config(tmp_path / "a.toml")


@pytest.mark.parametrize("file", ["config.toml", "run.json"])
def test_a_device_that_never_ends_is_no_file_of_a_run(tmp_path, file):
    (tmp_path / "run").mkdir()
    for name in ("config.toml", "run.json"):
        (tmp_path / "run" / name).write_text("")
    (tmp_path / "run" / file).unlink()
    (tmp_path / "run" / file).symlink_to("/dev/zero")
    with pytest.raises(RunFolderError, match=r"plain file|is no run|damaged"):
        Run.open(tmp_path / "run")


def test_names_with_markup_run_nothing_in_a_browser(tmp_path):
    """Of a folder, a run, a theory and an observable, as a page over runs shows what it finds in files."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here to look at the page")
    run = tmp_path / MARKUP.replace("/", "∕")[:200]
    run.mkdir()
    (run / "config.toml").write_text(
        f"name = '''{MARKUP}'''\n[action]\ntype = '''{MARKUP}'''\nlattice = ['''{MARKUP}''']\n"
    )
    (run / "run.json").write_text(json.dumps({"created": MARKUP}))
    (run / "results.json").write_text(json.dumps({"verdict": MARKUP, MARKUP: MARKUP}))
    page, _ = write_index(tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    for name in ("report.html.j2", "scan.html.j2", "index.html.j2"):
        source, _, _ = environment().loader.get_source(environment(), name)
        assert "default-src 'none'" in source
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'p'}"]
    shown = subprocess.run(
        [*command, "--dump-dom", Path(page).as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    assert "<title>run</title>" not in shown.stdout
    assert MARKUP[:8] not in shown.stdout


def test_words_of_a_theory_with_markup_are_text(tmp_path):
    """On the page of a run and on that of a scan."""
    file = tmp_path / "own.py"
    file.write_text(OWN.format(markup=MARKUP), encoding="utf-8")
    (tmp_path / "own.toml").write_text(
        f"seed = [1, 2]\ndescription = '''<script>'''\n[action]\ntype = '{file}:Marked'\nlattice = [4, 2]\n"
        "[beside]\nsteps = 40\nchains = 4\nthermalisation = 20\n",
        encoding="utf-8",
    )
    made = CliRunner().invoke(cli.app, ["run", str(tmp_path / "own.toml"), "--out", str(tmp_path / "scan")])
    assert made.exit_code in (0, 3), made.output
    pages = [tmp_path / "scan" / "scan.html", *(tmp_path / "scan").glob("*/report.html")]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "&lt;script&gt;" in text
        assert "<script" not in text
        assert "<img src=x" not in text
