"""Runs of multilevel densities, from the configuration to the verdict."""

import pytest

from latflow.config import load_config
from latflow.densities.multilevel import CountedMultilevel, Multilevel
from latflow.errors import ConfigError
from latflow.runs import Run
from latflow.validation import validate
from small_runs import SMALL_CHAINS, assert_same, outcome

SMALL = [*SMALL_CHAINS, "action.lattice=[8, 8]", "training.steps=90"]
"""Changes to the presets."""

NARROW = "model={type='multilevel', width=8}"
NETWORKS = [
    "model={type='multilevel', width=8}",
    "training.estimator=soft_labels",
    "training.learning_rate=0.01",
]
"""Networks where the preset has tables."""

AWAY = "training.curriculum={lattices=[[4, 4]], steps=[12]}"
"""The lattice of the first steps."""


class StoppedError(Exception):
    """Training, by hand."""


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        pytest.param(
            "phi4-critical-16", ["action.beta=0.576", "reference={}", NARROW], marks=pytest.mark.slow
        ),
        pytest.param("ising-32x32", ["action.beta=0.4", AWAY, *NETWORKS], marks=pytest.mark.slow),
        ("ising-32x32", ["action.beta=0.4", AWAY]),
    ],
)
def test_a_run_passes_its_validation(preset, changes, tmp_path):
    run = Run.create(tmp_path / "run", load_config(preset, [*SMALL, *changes]))
    run.train()
    run.sample()
    run.sample_beside()
    verdict = validate(run)
    assert isinstance(run.model("best"), Multilevel | CountedMultilevel)
    assert verdict.passed, verdict
    assert verdict.diagnostics["ess"] > 0.6
    names = [check.name for check in verdict.checks]
    assert "z2 symmetry of the density" in names


@pytest.mark.parametrize("changes", [NETWORKS, []])
def test_a_run_goes_on_as_if_it_had_not_stopped(changes, tmp_path):
    config = load_config(
        "ising-32x32", [*SMALL, "training.steps=40", "action.lattice=[4, 8]", AWAY, *changes]
    )
    whole, stopped = Run.create(tmp_path / "whole", config), Run.create(tmp_path / "stopped", config)
    whole.train()

    def stop(record):
        if record.step == 33:
            raise StoppedError

    with pytest.raises(StoppedError):
        stopped.train(stop)
    stopped.train()
    assert_same(outcome(whole.path, ()), outcome(stopped.path, ()))


@pytest.mark.slow
def test_a_curriculum_comes_from_a_configuration(tmp_path):
    smaller = ["training.steps=30", "training.curriculum={lattices=[[8, 8]], steps=[20]}"]
    config = load_config("phi4-critical-16", [*SMALL, NARROW, "action.lattice=[16, 16]", *smaller])
    run = Run.create(tmp_path / "run", config)
    run.train()
    assert run.history()[-1]["ess"] > 0.05


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model={type='spline'}"],
            "training.estimator: expected a density that draws single sites, such as",
        ),
        (
            ["action.lattice=[18, 18]"],
            "model: expected sides that halve until no more than 36 sites are left",
        ),
        (
            ["model={type='multilevel', conditional='tables'}"],
            "model: expected spins for tables, got LineWeight",
        ),
        (
            ["training.estimator=counting", "training.estimator_options={}"],
            "training.estimator: expected a density that is made of counts",
        ),
        (["training.estimator_options.proposals=2.0"], "training.estimator_options: expected 0 < proposals"),
        (["training.anneal={start=0.3, steps=10}"], "training.estimator: expected the theory for which the"),
        (["training.curriculum={lattices=[[6, 6]], steps=[20]}"], "training.curriculum: expected sides that"),
    ],
)
def test_what_is_wrong_is_named(overrides, message):
    with pytest.raises(ConfigError) as caught:
        load_config("phi4-critical-16", overrides)
    assert message in str(caught.value)
