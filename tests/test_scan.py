"""Scans from the command line: what they make, what they leave alone, and what they say."""

import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from typer.testing import CliRunner

from latflow.cli import app
from latflow.measurement import Measurement
from latflow.report import mark_of
from latflow.runs import Run
from latflow.runs.lock import locked
from latflow.scans import ScanFolder, findings
from latflow.scans.groups import agreement_of, pooled

SPINS = """
[action]
type = "ising"
lattice = [4, 4]
beta = [0.3, 0.4]
[beside]
steps = 100
chains = 16
thermalisation = 20
[compute]
threads = 1
"""


def invoke(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture(scope="module")
def no_pages():
    """Reports of single runs, which take most of the time and have tests of their own, stay empty."""
    with pytest.MonkeyPatch.context() as patch:

        def page(run, validation):
            mark = f'<meta name="latflow-verdict" content="{mark_of(validation)}">'
            (run.path / "report.html").write_text(mark)
            return run.path / "report.html"

        patch.setattr("latflow.report.write_report", page)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, no_pages):
    """Two couplings with three seeds each."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "spins.toml").write_text("seed = [1, 2, 3]\n" + SPINS)
    done = invoke("run", folder / "spins.toml", "--out", folder / "scan")
    assert done.exit_code == 0, done.output
    return folder / "scan", done


@pytest.fixture
def scan(made, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(made[0], tmp_path / "scan"))


def numbers(path):
    """All series of all runs of a scan."""
    return {
        run.name: {name: values.copy() for name, values in Run.open(run).series("beside").items()}
        for run in sorted(path.glob("*=*"))
    }


def assert_same(one, other, names=None):
    for name in names or one:
        for key, values in one[name].items():
            np.testing.assert_array_equal(values, other[name][key])


def test_a_scan_says_what_it_does_and_leaves_a_folder_for_each_run(made):
    path, done = made
    assert "scan spins in" in done.stderr
    assert "6 runs, 3 of seed × 2 of action.beta" in done.stderr
    assert "run 6 of 6: seed=3,beta=0.4" in done.stderr
    assert done.stdout.splitlines()[-1] == str(path / "scan.html")
    assert sorted(run.name for run in path.glob("*=*")) == [
        f"seed={seed},beta={beta}" for seed in (1, 2, 3) for beta in (0.3, 0.4)
    ]
    for name in ("scan.toml", "scan.json", "scan.csv", "scan.md", "scan.html", "figures/observables.pdf"):
        assert (path / name).is_file()


def test_seeds_are_pooled_and_held_against_each_other(made):
    path, _ = made
    found = json.loads((path / "scan.json").read_text(), parse_constant=pytest.fail)
    group = found["groups"][0]
    assert group["settings"] == {"action.beta": 0.3}
    assert [run["values"]["seed"] for run in group["runs"]] == [1, 2, 3]
    single = [json.loads((path / run["folder"] / "results.json").read_text()) for run in group["runs"]]
    rows = [next(row for row in one["rows"] if row["name"] == "energy") for one in single]
    values = np.array([row["values"]["beside"]["value"] for row in rows])
    errors = np.array([row["values"]["beside"]["error"] for row in rows])
    mean = group["values"]["energy"]["beside"]
    assert mean["value"] == pytest.approx(values.mean())
    assert mean["error"] == pytest.approx(np.sqrt((errors**2).sum()) / 3)
    assert abs(mean["value"] - group["values"]["energy"]["exact"]["value"]) < 5 * mean["error"]
    agreement = group["agreement"]["energy"]["beside"]
    weighted = (values / errors**2).sum() / (errors**-2.0).sum()
    assert agreement["chi_squared"] == pytest.approx((((values - weighted) / errors) ** 2).sum())
    assert agreement["dof"] == 2


def test_seeds_agree_as_often_as_they_should():
    rng = np.random.default_rng(1)
    sets = [[Measurement(value, 0.1) for value in rng.normal(1.0, 0.1, 4)] for _ in range(400)]
    p = np.array([agreement_of(one).p_value for one in sets])
    assert abs(p.mean() - 0.5) < 5 / math.sqrt(12 * 400)  # uniform
    means = np.array([pooled(one).value for one in sets])
    assert pooled(sets[0]).error == pytest.approx(0.05)
    assert abs(means.std() / 0.05 - 1) < 5 / math.sqrt(800)
    assert not agreement_of([Measurement(0.0, 0.1), Measurement(1.0, 0.1)]).passed
    assert agreement_of([Measurement(0.0, 0.0), Measurement(1.0, 0.1)]) is None


def test_the_table_has_a_line_for_each_number(made):
    lines = (made[0] / "scan.csv").read_text().splitlines()
    assert lines[0] == "run,seed,action.beta,state,observable,way,value,error,tau_int,tau_int_error,n,warning"
    mine = [line for line in lines if line.startswith('"seed=2,beta=0.4",2,0.4,passed,energy,')]
    assert [line.split(",")[6] for line in mine] == ["beside", "exact"]


def test_the_page_needs_nothing_else_and_its_links_lead_somewhere(made):
    page = (made[0] / "scan.html").read_text()
    links = [unquote(link) for link in re.findall(r'href="([^"#]+)"', page) if not link.startswith("data:")]
    assert len(links) == 6
    assert all((made[0] / link).is_file() for link in links)
    assert not re.search(r'src="(?!data:)', page)
    assert "<script" not in page


def test_what_is_finished_is_not_run_again(scan):
    before, stamps = numbers(scan), {file: file.stat().st_mtime_ns for file in scan.glob("*/results.json")}
    done = invoke("run", scan)
    assert done.exit_code == 0, done.output
    assert "6 of them finished" in done.stderr
    assert "run 1 of" not in done.stderr
    assert_same(before, numbers(scan))
    assert stamps == {file: file.stat().st_mtime_ns for file in scan.glob("*/results.json")}


def test_no_clock_decides_what_is_finished(scan):
    """Files copied in any order, or written by a clock that has jumped back by ten years."""
    runs = {run.name: run for run in ScanFolder.open(scan).runs}
    one = runs["seed=1,beta=0.3"]
    for file in one.path.rglob("*"):
        os.utime(file, (4e9, 4e9) if file.suffix == ".safetensors" else (1e9, 1e9))
    assert one.finished
    grown = runs["seed=1,beta=0.4"]
    (grown.path / "report.html").write_text("the page of another verdict")
    assert not grown.finished
    other = runs["seed=2,beta=0.4"]
    kept = (other.path / "results.json").read_bytes()
    assert invoke("sample", other.path, "-o", "beside.steps=120").exit_code == 0
    for file in (other.path / "checkpoints").iterdir():
        os.utime(file, (1e9, 1e9))
    assert (other.path / "results.json").read_bytes() == kept
    longer = replace(other, config=Run.open(other.path).config)
    assert not longer.finished
    assert invoke("report", other.path).exit_code == 0
    assert longer.finished


def test_a_longer_list_adds_runs_and_a_shorter_one_leaves_them(scan):
    before = numbers(scan)
    done = invoke("run", scan, "-o", "action.beta=[0.3, 0.35, 0.4]", "-o", "seed=[1]")
    assert done.exit_code == 0, done.output
    assert "run 1 of 1: seed=1,beta=0.35" in done.stderr
    assert_same(before, numbers(scan), list(before))
    assert "seed=2,beta=0.3 is there, but no longer in the lists" in " ".join(done.stdout.split())
    assert len(ScanFolder.open(scan).runs) == 3


def test_longer_chains_go_on(scan):
    before = numbers(scan)
    done = invoke("run", scan, "-o", "beside.steps=120", "-o", "seed=[1]")
    assert done.exit_code == 0, done.output
    after = numbers(scan)["seed=1,beta=0.4"]["energy"]
    assert len(after) == 120
    np.testing.assert_array_equal(after[:100], before["seed=1,beta=0.4"]["energy"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("beside.chains=8", "beside.chains: 16 and 8"),
        ("action.field=0.1", "action.field: 0.0 and 0.1"),
        ("action.lattice=[[4, 4], [6, 4]]", "holds a scan of seed, action.beta, and this one is of"),
    ],
)
def test_changed_settings_are_refused_before_anything_is_done(scan, change, told):
    stamps = {file: file.stat().st_mtime_ns for file in scan.rglob("*") if file.is_file()}
    done = invoke("run", scan, "-o", change, "-o", "beside.steps=200")
    assert done.exit_code == 2
    assert told in done.stderr
    left = {file: file.stat().st_mtime_ns for file in scan.rglob("*") if file.is_file()}
    assert left == stamps


def test_a_scan_may_have_the_settings_of_a_run(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("run", "scan/seed=1,beta=0.3", "-o", "action.beta=[0.3]")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "scans/spins-seed1-beta0.3/beta=0.3/results.json").is_file()


def test_a_scan_needs_a_folder_of_its_own(scan, tmp_path):
    with locked(scan):
        busy = invoke("run", scan)
    assert busy.exit_code == 2
    assert "is in use by another process" in busy.stderr
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "letter.txt").write_text("dear")
    other = invoke("run", scan, "--out", tmp_path / "else")
    assert other.exit_code == 2
    assert "no scan, but not empty (letter.txt)" in other.stderr


def test_a_scan_is_no_single_run(scan):
    for command in ("train", "sample"):
        done = invoke(command, scan)
        assert done.exit_code == 2
        assert "got a scan of seed, action.beta, which `latflow run` carries out" in done.stderr


def test_a_run_that_is_not_legal_is_named_before_anything_is_done(tmp_path, no_pages):
    (tmp_path / "spins.toml").write_text(SPINS)
    done = invoke(
        "run", tmp_path / "spins.toml", "-o", "action.lattice=[[4, 4], [1, 4]]", "--out", tmp_path / "s"
    )
    assert done.exit_code == 2
    assert "in the run lattice=1x4,beta=0.3: action" in done.stderr
    assert not (tmp_path / "s").exists()


def test_runs_that_fail_stop_no_others_and_the_worst_status_is_told(tmp_path, no_pages):
    (tmp_path / "spins.toml").write_text(
        SPINS.replace("[0.3, 0.4]", "[0.3, 0.35, 0.4]")
        + '[reference]\nenergy = ["7.0(1)", "-1.0(9.0)", "-1.0(9.0)"]\n'
        + '[scan]\nzip = ["action.beta", "reference.energy"]\n'
    )
    scan = tmp_path / "scan"
    wrong = invoke("run", tmp_path / "spins.toml", "--out", scan)
    assert wrong.exit_code == 1
    assert "beta=0.3: validation FAILED" in wrong.stderr
    assert "beta=0.4: validated" in wrong.stderr
    assert '<td class="bad">failed' in (scan / "scan.html").read_text()
    again = invoke("run", scan)
    assert again.exit_code == 1
    (found,) = [group for group in findings(ScanFolder.open(scan)).groups if group.state == "failed"]
    assert found.settings["action.beta"] == 0.3
    # a run that cannot go on is worse
    shutil.rmtree(scan / "beta=0.35")
    (scan / "beta=0.35").write_text("no folder")
    (scan / "beta=0.4" / "samples.zarr").rename(tmp_path / "gone")
    (scan / "beta=0.4" / "results.json").unlink()
    (scan / "beta=0.3" / "results.json").write_text("{")
    worse = invoke("run", scan)
    assert worse.exit_code == 2
    assert "beta=0.35: ended with status 2" in worse.stderr
    assert "beta=0.3: validation FAILED" in worse.stderr  # its verdict was made anew


def test_two_lattices_tell_of_their_crossing(tmp_path, no_pages):
    (tmp_path / "spins.toml").write_text(
        SPINS.replace("[0.3, 0.4]", "[0.38, 0.42, 0.46]").replace("[4, 4]", "[[4, 4], [8, 8]]")
    )
    done = invoke("run", tmp_path / "spins.toml", "--out", tmp_path / "scan")
    assert done.exit_code in (0, 3), done.output
    found = findings(ScanFolder.open(tmp_path / "scan"))
    assert {one.observable.name for one in found.critical} == {"binder_cumulant", "correlation_length"}
    assert [curve.size for curve in found.critical[0].curves] == [4.0, 8.0]
    assert "Binder cumulant" in done.stdout
    assert (tmp_path / "scan" / "figures" / "critical_binder_cumulant.png").is_file()
    tree = json.loads((tmp_path / "scan" / "scan.json").read_text())
    assert tree["critical"][0]["crossings"][0]["sizes"] == [4.0, 8.0]


QUICK = [
    "training.steps=3",
    "training.batch=16",
    "training.checkpoint_every=2",
    "sampling.steps=20",
    "sampling.chains=4",
    "beside.steps=20",
    "beside.chains=4",
    "compute.threads=1",
    "training.init_from=previous",
]


@pytest.mark.slow
def test_a_training_begins_with_the_weights_of_the_run_before(tmp_path, no_pages):
    changes = [word for change in QUICK for word in ("-o", change)]
    scan = tmp_path / "scan"
    first = invoke("run", "phi4-quick", *changes, "-o", "action.m2=[-4.0, -3.8]", "--out", scan)
    assert first.exit_code in (0, 1, 3), first.output
    one, two = Run.open(scan / "m2=-4.0"), Run.open(scan / "m2=-3.8")
    assert one.config.training.init_from is None
    assert Path(two.config.training.init_from) == one.path.resolve()
    start, best = two.first_model().state_dict(), one.model("best").state_dict()
    for name, values in start.items():
        np.testing.assert_array_equal(values, best[name])
    # a value in front changes no run that is there
    more = invoke("run", scan, "-o", "action.m2=[-4.2, -4.0, -3.8, -3.6]")
    assert more.exit_code in (0, 1, 3), more.output
    assert "4 runs, 4 of action.m2, 2 of them finished" in more.stderr
    assert Run.open(scan / "m2=-4.0").config.training.init_from is None
    assert Path(Run.open(scan / "m2=-3.6").config.training.init_from).name == "m2=-3.8"
    assert Run.open(scan / "m2=-4.2").config.training.init_from is None
