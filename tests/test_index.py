"""The page over many runs: what it says of good, unfinished and damaged ones."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from latflow.cli import app
from latflow.config import parse_config
from latflow.report.overview import overview, run_folders
from latflow.runs import Run
from latflow.storage import load_tree, save_tree
from latflow.workflow import judged, keep


def invoke(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A run with a verdict."""
    config = {
        "name": "tiny",
        "action": {"type": "ising", "lattice": [4, 4], "beta": 0.3},
        "beside": {"steps": 100, "chains": 16, "thermalisation": 20},
        "compute": {"threads": 1},
    }
    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny", parse_config(config))
    run.sample_beside()
    keep(run, judged(run))
    (run.path / "report.html").write_text("a page")
    return run.path


@pytest.fixture
def runs(sampled, tmp_path):
    """A folder with a good run under names that pages must escape, and all sorts of others."""
    folder = tmp_path / "runs"

    def copy(name, **files):
        path = shutil.copytree(sampled, folder / name)
        for file, text in files.items():
            target = path / file.replace("__", ".")
            target.write_text(text) if text is not None else target.unlink()
        return path

    copy("good & <b>bold</b> #1?", config__toml=(sampled / "config.toml").read_text())
    copy("unfinished", results__json=None)
    copy("no config", config__toml=None)
    copy("no toml", config__toml="[action")
    copy("binary", config__toml="\x00\x01")
    copy("no info", run__json=None)
    copy("cut", results__json=(sampled / "results.json").read_text()[:500])
    copy("list", results__json="[1, 2]")
    copy("no verdict", results__json="{}")
    copy("odd", results__json=json.dumps({"verdict": "passed", "rows": [{"name": 3}], "ways": 7}))
    copy("deep", results__json="[" * 100_000)
    copy("nested/deeper/inside")
    (copy("no page") / "report.html").unlink()
    (folder / "letters").mkdir()
    (folder / "note.txt").write_text("no run")
    (folder / "loop").symlink_to(folder)
    (copy("latin") / "results.json").write_bytes(b"\xff\xfe{}")
    return folder


def test_every_run_is_listed_as_what_it_is(runs):
    done = invoke("index", runs)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(runs / "index.html")
    states = {str(path.relative_to(runs)): overview(path).state for path in run_folders(runs)}
    good = {"good & <b>bold</b> #1?", "nested/deeper/inside", "no page"}
    assert {name for name, state in states.items() if state == "passed"} == good
    assert {name for name, state in states.items() if state == "unfinished"} == {"unfinished"}
    assert {name for name, state in states.items() if state == "damaged"} == {
        "no config", "no toml", "binary", "no info", "cut", "list", "deep", "latin",
    }  # fmt: skip
    assert {name for name, state in states.items() if state == "outdated"} == {"no verdict", "odd"}
    page = (runs / "index.html").read_text()
    assert "14 runs: 3 passed, 1 unfinished, 2 outdated, 8 damaged" in page
    assert "no verdict yet: sampling has begun (beside)" in page
    assert "config.toml is missing" in page
    assert "nested too deeply" in page or "maximum recursion" in page or "recursion" in page
    assert f"latflow: {runs / 'cut'}: results.json is damaged: " in done.stderr
    assert f"latflow: {runs / 'odd'}: results.json is of another version of latflow " in done.stderr


def test_the_page_is_whole_in_itself_and_escapes_names(runs):
    invoke("index", runs)
    page = (runs / "index.html").read_text()
    assert "<b>bold" not in page
    assert "good &amp; &lt;b&gt;bold" in page
    links = [link for link in re.findall(r'href="([^"]+)"', page) if not link.startswith("data:")]
    assert all((runs / unquote(link)).is_file() for link in links)
    assert len(links) == 13  # all but the one without a page
    assert "<script" not in page
    assert "src=" not in page
    assert "Ising model on 4 × 4, β = 0.3" in page
    assert re.search(r"⟨\|M\|⟩ = 0\.\d+\(\d+\)", page)


def test_it_is_written_anew_and_no_other_page_is(runs):
    assert invoke("index", runs).exit_code == 0
    assert invoke("index", runs).exit_code == 0
    (runs / "index.html").write_text("<html>my page</html>")
    done = invoke("index", runs)
    assert done.exit_code == 2
    assert "not written by `latflow index`" in done.stderr
    assert (runs / "index.html").read_text() == "<html>my page</html>"


def test_what_holds_no_runs_is_told(sampled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "expected a folder with runs at runs, found no folder" in invoke("index").stderr
    (tmp_path / "runs").mkdir()
    assert "found none in it" in invoke("index").stderr
    assert "found a run" in invoke("index", sampled).stderr
    assert invoke("index", sampled).exit_code == 2


def test_a_folder_that_cannot_be_read_breaks_nothing(runs):
    closed = runs / "unfinished"
    closed.chmod(0)
    try:
        assert invoke("index", runs).exit_code == 0
    finally:
        closed.chmod(0o755)


def test_a_verdict_of_before_says_how_it_is_written_anew(sampled, tmp_path):
    path = Path(shutil.copytree(sampled, tmp_path / "old"))
    old = json.loads((path / "results.json").read_text())
    del old["theory"], old["digest"]  # which earlier versions did not write
    (path / "results.json").write_text(json.dumps(old))
    found = overview(path)
    assert found.state == "outdated"
    assert found.why == (
        "results.json is of another version of latflow (it has no 'theory'): "
        f"`latflow report {path}` writes it anew"
    )
    run = Run.open(path)
    keep(run, judged(run))  # as the command does before it writes the page
    assert overview(path).state == "passed"


def test_a_verdict_on_other_numbers_is_told(sampled, tmp_path):
    path = Path(shutil.copytree(sampled, tmp_path / "changed"))
    run = Run.open(path)
    kept = path / "checkpoints" / "beside.safetensors"
    before = kept.read_bytes()
    save_tree(kept, {**load_tree(kept), "more": 1})
    found = overview(path)
    assert found.state == "outdated"
    assert found.why == (
        f"results.json is of other numbers than those in beside: `latflow report {path}` writes it anew"
    )
    kept.write_bytes(before[:100])  # which gives no numbers at all
    assert overview(path).state == "outdated"
    kept.write_bytes(before)
    assert overview(path).state == "passed"
    new = path / "checkpoints" / "model.safetensors"  # of a chain that was made after the verdict
    shutil.copy(kept, new)
    assert overview(path).state == "outdated"
    new.unlink()
    old = json.loads((path / "results.json").read_text())
    del old["checkpoints"], old["digest"]  # which earlier versions did not write
    (path / "results.json").write_text(json.dumps(old))
    assert overview(path).state == "passed"
    keep(run, judged(run))
    assert overview(path).state == "passed"
