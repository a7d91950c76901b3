"""Training that begins on smaller lattices, and learning rates of groups of parameters."""

import math

import pytest
import torch
from torch import Generator

from latflow.config import load_config
from latflow.densities.files import load_density
from latflow.densities.flows import affine_flow, continuous_gauge_flow
from latflow.errors import ConfigError
from latflow.estimators import forward_path, path_gradient
from latflow.runs import Run
from latflow.theories import Phi4, Schwinger
from latflow.training import Anneal, Curriculum, Schedule, Trainer

SMALL = [
    "name=small",
    "action.lattice=[6, 4]",
    "model.stages=1",
    "model.grid=8",
    "training.steps=8",
    "training.batch=16",
    "training.checkpoint_every=2",
    "training.curriculum.lattices=[[4, 4], [3, 5]]",
    "training.curriculum.steps=[3, 2]",
    "compute.threads=1",
]


class Seen(Phi4):
    """φ⁴ that remembers on which lattices it was evaluated."""

    seen: list[tuple[int, ...]] = []  # noqa: RUF012 (shared by the theories on all lattices)

    def __call__(self, x):
        self.seen.append(tuple(x.shape[1:]))
        return super().__call__(x)


def trained(**options):
    flow = affine_flow((4, 6), layers=2, hidden=(2,))
    Seen.seen.clear()
    action = Seen((4, 6), m2=1.0, lam=0.5)
    trainer = Trainer(
        flow, action, path_gradient, batch=8, generator=Generator().manual_seed(1), **{"steps": 6} | options
    )
    return trainer, list(trainer)


def test_the_first_steps_are_made_on_smaller_lattices():
    trainer, records = trained(curriculum=Curriculum([(2, 2), (4, 2)], [2, 1]))
    assert list(dict.fromkeys(Seen.seen)) == [(2, 2), (4, 2), (4, 6)]
    assert [trainer.settled(step) for step in range(5)] == [False, False, False, True, True]
    # F_q grows with the volume: the records tell of the lattice of their step
    assert abs(records[0].f_q) < abs(records[-1].f_q)
    assert len(records) == 6


def test_the_steps_are_those_of_a_training_on_that_lattice():
    trainer, records = trained(curriculum=Curriculum([(2, 2)], [5]))
    alone, action = affine_flow((2, 2), layers=2, hidden=(2,)), Seen((2, 2), m2=1.0, lam=0.5)
    generator = Generator().manual_seed(1)
    other = list(Trainer(alone, action, path_gradient, batch=8, steps=5, generator=generator))
    assert [record.f_q for record in other] == [record.f_q for record in records[:5]]
    assert trainer.curriculum.total == 5


def test_a_curriculum_and_annealing_together():
    trainer, _ = trained(curriculum=Curriculum([(2, 2)], [2]), anneal=Anneal(0.5, 4))
    assert [trainer.settled(step) for step in (1, 3, 4)] == [False, False, True]


def test_rates_by_the_names_of_parameters():
    """One step of plain gradient descent moves each parameter by its factor."""
    moved = []
    for factors in ({}, {"bijection": 2.0, "bijection.bijections.0.bijection.vector_field.kernels": 0.5}):
        flow = continuous_gauge_flow((4, 4), prior_beta=1.0, stages=1, holonomies="uniform")
        before = {name: one.detach().clone() for name, one in flow.named_parameters()}
        trainer = Trainer(
            flow, Schwinger((4, 4), 1.0, 0.2), forward_path, steps=1, batch=8, optimizer="sgd",
            generator=Generator().manual_seed(1), schedule=Schedule(), rate_factors=factors,
        )  # fmt: skip
        list(trainer)
        moved.append({name: one.detach() - before[name] for name, one in flow.named_parameters()})
    plain, factored = moved
    for name, change in plain.items():
        expected = 0.5 if name.endswith("kernels") else 2.0 if name.startswith("bijection") else 1.0
        torch.testing.assert_close(factored[name], expected * change, rtol=1e-4, atol=1e-7)
    assert any(change.abs().sum() > 0 for change in plain.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curriculum": ([(2, 2)], [1, 2])}, "as many numbers of steps"),
        ({"curriculum": ([], [])}, "expected lattices"),
        ({"curriculum": ([(2, 2)], [0])}, "at least 1"),
        ({"curriculum": ([(2,)], [1])}, "expected 2 side lengths"),
        ({"rate_factors": {"nothing": 2.0}}, "beginnings of the names"),
        ({"rate_factors": {"bijection": 0.0}}, "positive factors"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trained(**{name: Curriculum(*v) if name == "curriculum" else v for name, v in options.items()})


def test_a_run_with_a_curriculum_goes_on_where_it_stopped(tmp_path):
    """Interrupted anywhere, a training ends with the same weights, which are for the run's own lattice."""
    config = load_config("schwinger-8x8", SMALL)
    whole, halting = (Run.create(tmp_path / name, config) for name in ("whole", "halting"))
    whole.train()

    def stop(record):
        if record.step in (3, 7):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            halting.train(stop)
    halting.train()
    without_time = [{**record, "seconds": 0} for record in whole.history()]
    assert [{**record, "seconds": 0} for record in halting.history()] == without_time
    assert len(without_time) == 8
    action = Schwinger((6, 4), 2.0, 0.276)
    one, other = (
        load_density(run.path / "checkpoints" / "best.safetensors", action=action) for run in (whole, halting)
    )
    assert one.lattice == (6, 4)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "training.curriculum.steps=[5, 5]",
            "training.curriculum.steps: expected fewer steps on other lattices",
        ),
        ("training.curriculum.lattices=[[2, 2], [3, 5]]", "training.curriculum: "),
        ("training.curriculum.lattices=[[4, 4, 4], [3, 5]]", "training.curriculum: "),
        ("training.rate_factors.nothing=2.0", "training.rate_factors: "),
        ("training.rate_factors.prior=0.0", "training.rate_factors.prior: "),
        ("training.rate_factors.prior=[2, 2]", "training.rate_factors.prior: "),
        ("training.estimator_options.largest=0.5", "training.estimator_options: expected largest"),
        ("training.estimator_options.nothing=0.5", "training.estimator_options: expected arguments out of"),
    ],
)
def test_configurations_that_cannot_run_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        load_config("schwinger-8x8", [*SMALL, change])


def test_whole_numbers_are_factors():
    factors = load_config("schwinger-8x8", [*SMALL, "training.rate_factors.prior=3"]).training.rate_factors
    assert factors["prior"] == 3
    assert {type(factor) for factor in factors.values()} == {float}


def test_presets_fit_their_curricula():
    for side, name in ((8, "nf1"), (8, "theta"), *((side, f"{side}x{side}") for side in (8, 16, 24, 32))):
        config = load_config(f"schwinger-{name}")
        curriculum = config.training.curriculum
        assert curriculum is None or sum(curriculum.steps) < config.training.steps
        assert math.prod(config.action.table()["lattice"]) == side**2
