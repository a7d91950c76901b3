"""Experiments of the papers: each runs, keeps its parts, and refuses those of other settings."""

import dataclasses
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from latflow.cli import app
from latflow.errors import RunFolderError
from latflow.papers import EXPERIMENTS, Bench, Table

every_experiment = pytest.mark.parametrize("name", EXPERIMENTS)


@every_experiment
def test_every_experiment_runs_and_goes_on_from_its_parts(name, tmp_path):
    experiment, said = EXPERIMENTS[name], []
    bench = Bench(tmp_path, experiment.quick, seed=3, say=said.append)
    page = bench.write(experiment.title, experiment.run(bench, experiment.quick))
    text = page.read_text()
    assert experiment.title in text
    assert "| --- |" in text
    assert list(tmp_path.glob("*.png"))
    assert not re.search(r"\bnan\b", text)

    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert len(said) >= len(parts) > 0
    again = Bench(tmp_path, experiment.quick, seed=3)
    again.write(experiment.title, experiment.run(again, experiment.quick))
    assert page.read_text() == text
    assert parts == {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}


def test_parts_of_other_settings_are_refused(tmp_path):
    settings = EXPERIMENTS["toy"].quick
    Bench(tmp_path, settings, seed=1)
    for other, seed in ((settings, 2), (dataclasses.replace(settings, batch=7), 1)):
        with pytest.raises(RunFolderError, match="other settings or of another seed"):
            Bench(tmp_path, other, seed)


def test_a_part_that_fails_leaves_nothing_behind(tmp_path):
    bench = Bench(tmp_path, EXPERIMENTS["toy"].quick)

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.part("one", fail)
    assert bench.part("one", lambda: {"value": 2})["value"] == 2


def test_generators_differ_by_purpose_and_seed(tmp_path):
    settings = EXPERIMENTS["toy"].quick
    benches = Bench(tmp_path / "a", settings, seed=1), Bench(tmp_path / "b", settings, seed=2)
    seeds = {bench.generator(purpose).initial_seed() for bench in benches for purpose in ("x", "y")}
    assert len(seeds) == 4


def test_tables_are_markdown():
    assert str(Table(["a", "b"], [["1", "2"]])) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_variances_of_the_toy_model_are_the_exact_ones(tmp_path):
    """Mean square deviations of sample variances, in units of their spread: 1 each, within five sigma."""
    settings = dataclasses.replace(EXPERIMENTS["toy"].settings, steps=200, every=50, batches=300)
    bench = Bench(tmp_path, settings)
    rows = EXPERIMENTS["toy"].run(bench, settings).tables[0].rows
    assert [row[0] for row in rows] == ["score", "reinforce", "reparametrization", "path_gradient"]
    for row in rows:
        assert float(row[2]) < 5
        assert 0.5 < float(row[1]) < 1.6
    assert np.mean([float(row[3]) for row in rows]) < 1 + 5 * np.sqrt(2 / 16)


def test_the_command_lists_and_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(app, ["reproduce"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in EXPERIMENTS)
    refused = CliRunner().invoke(app, ["reproduce", "nothing"])
    assert refused.exit_code == 2
    assert "expected an experiment out of toy" in refused.output
    done = CliRunner().invoke(app, ["reproduce", "toy", "--quick"])
    assert done.exit_code == 0
    assert (tmp_path / "reproduced" / "toy-quick" / "toy.pdf").exists()
