"""Runs of an established sampler without a model, and of a model without a sampler beside it."""

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from latflow.cli import app
from latflow.config import load_config, parse_config, to_toml
from latflow.errors import ConfigError
from latflow.report import write_report
from latflow.runs import Run
from latflow.theories import Phi4
from latflow.validation import validate
from latflow.workflow import complete

SHORT = ["beside.steps=400", "beside.chains=8", "beside.thermalisation=50", "compute.threads=1"]
BARE = """
[action]
type = "phi4"
lattice = [4, 4]
m2 = 1.0
lam = 0.0
[beside]
steps = 400
chains = 8
thermalisation = 50
hmc = { compiled = false }
"""


def invoke(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of HMC for the free field, by the command line."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "free.toml").write_text(BARE)
    done = invoke("run", folder / "free.toml", "--out", folder / "free")
    assert done.exit_code == 0, done.output
    return Run.open(folder / "free")


def test_hmc_alone_is_held_against_what_is_known(alone):
    verdict = validate(alone)
    assert verdict.passed
    assert {way.name for way in verdict.ways} == {"beside", "exact"}
    rows = {row.name: row for row in verdict.rows}
    assert abs(rows["phi_squared"].pulls["beside", "exact"]) < 5
    assert alone.series("model") == alone.series("proposals") == {}
    assert not alone.checkpoint("last").exists()
    assert json.loads((alone.path / "results.json").read_text())["verdict"] == "passed"
    assert alone.written() == {"beside": 400}


def test_its_report_shows_no_model(alone):
    page = re.sub(r'src="data:[^"]*"', "", write_report(alone, validate(alone)).read_text(encoding="utf-8"))
    assert "Monte Carlo history" in page
    assert "Autocorrelation" in page
    assert not re.search(r"Weights of the proposals|the model|No figure", page)
    assert len(list((alone.path / "figures").glob("*.png"))) >= 3


def test_it_goes_on_and_refuses_to_train(alone, tmp_path):
    config = load_config(alone.path / "config.toml", ["beside.steps=420"])
    assert (config.model, config.training, config.sampling) == (None, None, None)
    assert parse_config(config.table()) == config
    longer = Run.create_or_resume(tmp_path / "longer", config)
    longer.sample()
    longer.sample_beside()
    for name, values in alone.series("beside").items():
        assert (longer.series("beside")[name][:400] == values).all(), name
    refused = invoke("train", alone.path)
    assert refused.exit_code == 2
    assert "expected a [model] to train" in refused.output
    new = invoke("train", "phi4-quick", "-o", "model=null", "--out", tmp_path / "new")
    assert new.exit_code == 2
    assert not (tmp_path / "new").exists()
    for what in (alone.model, alone.new_model):
        with pytest.raises(ConfigError, match="which has none"):
            what()


def test_a_preset_without_its_model():
    """What it says of training and of the model's chain is left behind; what is added now is refused."""
    config = load_config("phi4-quick", ["model=null", "sampling.save_fields=true", *SHORT])
    assert "[model]" not in to_toml(config)
    assert config.save_fields
    for key, told in (
        ("training.batch=4", "training.batch"),
        ("sampling.steps=30", "sampling.steps"),
        ("sampling.proposals.batch=8", "sampling.proposals"),
    ):
        with pytest.raises(ConfigError, match=re.escape(f"expected a [model] for {told}, got none")):
            load_config("phi4-quick", ["model=null", key])
    with pytest.raises(ConfigError, match="got neither"):
        load_config("phi4-quick", ["model=null", "beside.enabled=false"])


def test_a_chain_of_a_theory_made_in_python(tmp_path):
    beside = {"steps": 30, "chains": 4, "thermalisation": 5, "hmc": {"compiled": False}}
    run = Run.of(Phi4((4, 4), m2=1.0, lam=0.0), None, tmp_path / "run", beside=beside)
    assert complete(run).way("beside") is not None
    assert torch.as_tensor(run.series("beside")["phi_squared"]).shape == (30, 4)


def test_a_model_alone_is_held_against_what_is_known(tmp_path):
    changes = ["action.lam=0.0", "action.m2=1.0", "beside.enabled=false", "training.steps=60"]
    run = Run.create(tmp_path / "run", load_config("phi4-quick", [*changes, "sampling.steps=100", SHORT[3]]))
    run.train()
    run.sample()
    run.sample_beside()  # there is none
    verdict = validate(run)
    assert verdict.verdict in ("passed", "inconclusive")
    assert {way.name for way in verdict.ways} == {"model", "weights", "exact"}
