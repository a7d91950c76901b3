"""Runs side by side: what differs, what they found, what it cost."""

import math

import pytest
from typer.testing import CliRunner

from latflow.cli import app
from latflow.config import load_config, parse_config
from latflow.errors import RunFolderError
from latflow.runs import Run
from latflow.validation import compare, validate

FREE = ["action.m2=1.0", "action.lam=0.0", "compute.threads=1"]
SHORT = {"steps": 200, "chains": 8, "thermalisation": 50, "hmc": {"compiled": False}}


def hmc(path, seed, **action):
    table = {"name": path.name, "seed": seed, "beside": SHORT}
    table["action"] = {"type": "phi4", "lattice": [4, 4], "m2": 1.0, "lam": 0.0} | action
    run = Run.create(path, parse_config(table))
    run.sample_beside()
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A flow, and HMC for the same theory and for another one."""
    folder = tmp_path_factory.mktemp("compared")
    changes = [*FREE, "beside.enabled=false", "training.steps=30", "sampling.steps=200"]
    flow = Run.create(folder / "flow", load_config("phi4-quick", changes))
    flow.train()
    flow.sample()
    return flow, hmc(folder / "hmc", 2), hmc(folder / "other", 3, m2=1.1)


def test_numbers_of_one_theory_are_held_against_each_other(runs):
    found = compare(runs[:2])
    assert (found.names, found.same_theory) == (["flow", "hmc"], True)
    assert found.ways == ["model + Metropolis", "HMC"]
    rows = {row.name: row for row in found.rows}
    for name in ("phi_squared", "magnetization", "action_density"):
        one, other = rows[name].values["flow"], rows[name].values["hmc"]
        assert one == {row.name: row for row in validate(runs[0]).rows}[name].values["model"]
        pull = (one.value - other.value) / math.hypot(one.error, other.error)
        assert rows[name].pulls["flow", "hmc"] == pytest.approx(pull)
        assert abs(pull) < 5
    assert found.settings["seed"] == [1, 2]
    assert found.settings["model.type"][1] is None
    assert not [key for key in found.settings if key.startswith("action")]
    order = [key.partition(".")[0] for key in found.settings]
    assert order == sorted(order, key=list(dict.fromkeys(order)).index)


def test_costs_are_those_of_the_chains(runs):
    model, chain = compare(runs[:2]).costs
    assert (model.run, chain.run, chain.training, chain.ess) == ("flow", "hmc", None, None)
    assert model.training == runs[0].history()[-1]["seconds"]
    assert model.ess is not None
    assert 0 < model.ess <= 1
    assert chain.tau is not None
    assert chain.configuration is not None
    info = runs[1].sampling_info("beside")
    assert chain.acceptance == info["acceptance"]
    label, tau = chain.tau
    slow = {row.label: row.values["beside"].tau_int for row in validate(runs[1]).rows}
    assert tau.value == slow[label]
    assert chain.configuration.value == pytest.approx(2 * tau.value * info["seconds"] / (200 * 8))


def test_another_theory_is_shown_and_not_compared(runs):
    found = compare(runs)
    assert not found.same_theory
    assert found.settings["action.m2"] == [1.0, 1.0, 1.1]
    assert all(not row.pulls and len(row.values) == 3 for row in found.rows)


def test_what_cannot_be_compared(runs, tmp_path):
    for some in (runs[:1], [runs[0], runs[0]]):
        with pytest.raises(ValueError, match="expected at least two runs, each once"):
            compare(some)
    bare = Run.create(tmp_path / "bare", load_config("phi4-quick"))
    with pytest.raises(RunFolderError, match="holds no chain yet"):
        compare([runs[0], bare])


def test_on_the_command_line(runs):
    done = CliRunner().invoke(app, ["compare", *(str(run.path) for run in runs)])
    assert done.exit_code == 0
    for text in (
        "settings that differ",
        "action.m2",
        "1.1",
        "model + Metropolis",
        "HMC",
        "The theories differ",
    ):
        assert text in done.output
    refused = CliRunner().invoke(app, ["compare", str(runs[0].path)])
    assert refused.exit_code == 2
    assert "expected at least two runs" in refused.output
