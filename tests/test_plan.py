"""`latflow plan`: which methods enter, what their pilots tell, when they are not trusted, and the run."""

import dataclasses
import json
import math

import pytest
import torch
from typer.testing import CliRunner

from latflow.actions import Ising, Phi4, Schwinger, U1Gauge
from latflow.analysis import Measurement
from latflow.cli import app
from latflow.config import load_config, parse_config
from latflow.errors import ConfigError
from latflow.planning import Plan, asked, plan, trained
from latflow.planning.methods import distinct, established, serving, with_others
from latflow.planning.models import untrained
from latflow.planning.pilot import Pilot
from latflow.planning.ranking import ranked, rows
from latflow.planning.trust import doubts
from latflow.runs import Run

TOY = "tests/toy.py"


def invoke(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def config_of(action, **sections):
    chain = {"chains": 8, "steps": 100, "thermalisation": 20, "block": 50}
    return parse_config(
        {"name": "toy", "action": action, "beside": chain, "compute": {"threads": 1}} | sections
    )


PHI4 = {"type": "phi4", "lattice": [4, 4], "m2": 1.0, "lam": 0.5}
LINKS = {"type": "u1", "lattice": [8, 8], "beta": 7.0}


FREE = """
[action]
type = "phi4"
lattice = [4, 4]
m2 = 1.0
lam = 0.0
[beside]
chains = 16
[compute]
threads = 1
"""


def pilot_of(config, name, steps, observable=None, relative=True):
    """The pilot of the first method whose kernels are these, after some steps."""
    question = asked(config, observable, 0.02, relative=relative)
    found = serving(question.action)
    methods = distinct(established(config, question.action, found))
    methods += [one for each in methods[:1] for one in with_others(each, question.action, found)]
    pilot = Pilot(next(one for one in methods if tuple(one.kernels) == name), question)
    pilot.begin()
    pilot.extend(steps, math.inf)
    return pilot


@pytest.mark.parametrize(
    ("action", "alone", "within"),
    [
        (Phi4((4, 4), 1.0, 0.5), {"clusters", "hmc"}, set()),
        (Ising((4, 4), 0.4), {"clusters", "heat_bath", "metropolis", "swendsen_wang", "wolff"}, set()),
        (U1Gauge((4, 4), 2.0), {"hmc"}, {"hops", "holonomies"}),
        (Schwinger((4, 4), 2.0, 0.27), {"hmc"}, {"hops", "holonomies"}),
    ],
)
def test_the_samplers_that_serve_are_those_that_accept_the_theory(action, alone, within):
    found = serving(action)
    assert (set(found.alone), set(found.within)) == (alone, within)
    assert {"proposals", "flowed_hmc"} <= set(found.refused)


def test_hmc_is_tried_at_several_lengths_and_masses():
    config = config_of(PHI4 | {"lattice": [4, 16]})
    question = asked(config, None, 0.01)
    titles = [one.title for one in established(config, question.action, serving(question.action))]
    assert "HMC, trajectory_length = 4" in titles
    assert "HMC, fourier_mass = 0.0625" in titles
    assert len(titles) == 1 + 3 + 4 + 1  # the one of the configuration is that of length 1


def test_a_sampler_of_ones_own_enters_by_the_configuration():
    config = parse_config(
        {
            "name": "toy",
            "action": {"type": f"{TOY}:InField", "lattice": [3], "h": 1.0},
            "beside": {
                "kernels": ["rotations", "hmc"],
                "rotations": {"type": f"{TOY}:Rotations", "width": 0.7},
            },
        }
    )
    question = asked(config, None, 0.01)
    titles = [one.title for one in established(config, question.action, serving(question.action))]
    assert titles[0] == "rotations, width = 0.7 + HMC"
    assert "HMC" in titles


def test_the_question_names_what_there_is():
    config = config_of(PHI4)
    assert asked(config, None, 0.01).observable.name == "abs_magnetization"
    with pytest.raises(ConfigError, match="expected an observable out of log_z, phi_squared"):
        asked(config, "magnetisation", 0.01)
    with pytest.raises(ConfigError, match="zero by a symmetry"):
        asked(config, "magnetization", 0.01)
    assert not asked(config, "magnetization", 0.01, relative=False).relative
    with pytest.raises(ConfigError, match=r"below one, such as 2% or 0\.02, got 2"):
        asked(config, None, 2.0)


@pytest.mark.slow
def test_a_pilot_knows_its_chain():
    """The free field: ⟨φ²⟩ is known, and the heat bath of its sites and HMC must find it."""
    config = config_of(PHI4 | {"lam": 0.0})
    question = asked(config, "phi_squared", 0.02)
    found = plan(config, question, minutes=3.0, say=lambda _: None)
    exact = question.action.known()["phi_squared"]
    assert isinstance(found, Plan)
    assert found.best is not None
    assert found.best is found.rows[0]
    for row in found.rows:
        assert abs(row.average.pull(exact.value, exact.error)) < 5
        assert row.steps * row.chains >= row.numbers.value or row.steps == 0
        assert row.cost.value > 0
        assert row.training == 0
    assert not found.disagreements()
    costs = [row.cost.value for row in found.rows if row.sound]
    assert costs == sorted(costs)
    assert json.dumps(found.as_dict())
    assert found.best.title in found.recommendation()


def test_pilots_begin_with_the_same_numbers():
    one, other = (pilot_of(config_of(PHI4), ("hmc",), 20).record() for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_frozen_pilot_is_not_trusted():
    """U(1) at β = 7: HMC changes the charge about once in 1500 steps, hops in every second."""
    config = config_of(LINKS)
    frozen = pilot_of(config, ("hmc",), 100)
    assert any("of topological sectors" in doubt for doubt in doubts(frozen, frozen.chain))
    hopping = pilot_of(config, ("hmc", "hops"), 100)
    assert doubts(hopping, hopping.chain) == ()
    table = ranked([*rows(frozen), *rows(hopping)])
    assert [row.sound for row in table][-1] is False
    assert "hops" in table[0].title
    assert not rows(frozen)[0].sound


def test_a_short_record_is_a_lower_bound():
    config = load_config("phi4-critical-16", ["model=null", "beside.chains=16", "compute.threads=1"])
    pilot = pilot_of(config, ("hmc",), 40)
    (row,) = rows(pilot)
    assert row.lower
    assert not row.sound


def test_an_average_that_may_be_zero_has_no_relative_error():
    pilot = pilot_of(config_of(PHI4), ("hmc",), 60, "magnetization", relative=False)
    assert pilot.chain.need(pilot.question) is not None
    pilot.question = dataclasses.replace(pilot.question, relative=True)
    assert pilot.chain.need(pilot.question) is None
    assert "not known to differ from zero" in doubts(pilot, pilot.chain)[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run of a few steps of training."""
    path = tmp_path_factory.mktemp("plan") / "model"
    run = Run.create(path, load_config("phi4-quick", ["training.steps=40", "compute.threads=1"]))
    run.train()
    return path


@pytest.mark.slow
def test_a_trained_model_enters_with_what_its_training_took(model):
    config = load_config("phi4-quick", ["compute.threads=1", "beside.chains=16"])
    question = asked(config, "phi_squared", 0.01)
    one = trained(str(model), config)
    assert one.seconds > 0
    assert one.config.training.steps == 0
    found = plan(config, question, [one], minutes=3.0, say=lambda _: None, only=["proposals", "hmc"])
    mine = [row for row in found.rows if row.model == str(model)]
    assert {row.weighted for row in mine} == {True, False}
    for row in mine:
        assert row.with_training.value == pytest.approx(row.cost.value + one.seconds)
        assert 0 < row.ess <= 1
    assert found.untrained is None


def test_a_model_serves_other_lattices(model):
    config = load_config("phi4-quick", ["action.lattice=[16, 16]"])
    assert trained(str(model), config).density.sample(2, torch.Generator())[0].shape == (2, 16, 16)
    bare = model.parent / "bare"
    Run.create(bare, load_config("phi4-quick"))
    with pytest.raises(ConfigError, match="which has none"):
        trained(str(bare), config)


def test_an_untrained_model_says_what_it_would_take():
    config = load_config("phi4-quick", ["compute.threads=1"])
    found = untrained(config)
    assert found.steps == config.training.steps
    assert found.training > 0
    assert found.draw > 0


def test_the_break_even_counts_independent_numbers():
    config = config_of(PHI4)
    (row,) = rows(pilot_of(config, ("hmc",), 100))
    row = dataclasses.replace(row, lower=False, doubts=(), independent=Measurement(1000.0, 0.0))
    numbers = Measurement(500.0, 0.0)
    other = dataclasses.replace(row, title="model", model="x", training=10.0, numbers=numbers)
    table = {one.title: one for one in ranked([row, other])}
    expected = 10 / (row.price - other.price)
    assert table["model"].break_even == pytest.approx(expected if row.price > other.price else math.inf)


def test_the_command_plans_runs_and_goes_on(tmp_path):
    target = tmp_path / "free.toml"
    target.write_text(FREE)
    words = (
        "plan",
        target,
        "--observable",
        "phi_squared",
        "--error",
        "2%",
        "--budget",
        "2",
        "--only",
        "hmc",
    )
    done = invoke(*words, "--run", "--out", tmp_path / "run", "--json", tmp_path / "plan.json")
    assert done.exit_code == 0, done.output
    assert "Run HMC" in done.output
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["recommended"].startswith("HMC")
    run = Run.open(tmp_path / "run")
    best = next(row for row in told["rows"] if row["title"] == told["recommended"])
    assert run.written() == {"beside": best["steps"]}
    assert run.config.beside.thermalisation == best["thermalisation"]
    again = invoke(*words, "--run", "--out", tmp_path / "run")
    assert again.exit_code == 0, again.output
    assert "pilots" not in again.output
    assert "predicted" in again.output
    other = invoke(*words[:5], "1%", *words[6:], "--run", "--out", tmp_path / "run")
    assert other.exit_code == 2
    assert "holds the run of another plan" in other.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--observable", "nothing"], "expected an observable out of"),
        (["--error", "-1"], "expected a positive error"),
        (["--error", "much"], "expected a positive error"),
        (["--model", "nowhere"], "found no such folder"),
        (["--only", "wolff"], "expected samplers that serve this theory"),
        (["--observable", "magnetization"], "zero by a symmetry"),
    ],
)
def test_wrong_words_are_told(words, message):
    done = invoke("plan", "phi4-8x8", *words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
