"""The cost of an independent configuration, and the trajectory length that makes it least."""

import math

import pytest
import torch

from latflow.actions import Phi4
from latflow.samplers import HMC, thermalise, tune_cost

FREE = Phi4((4, 6), m2=0.1, lam=0.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_cheapest_length_is_a_quarter_period_of_the_slow_mode() -> None:
    """The zero mode has ω = √(2m²) = 0.447: a trajectory turns it to cos(ωτ) of itself, up to rejections.

    With acceptance a the autocorrelation is 1 − a + a cos(ωτ) at lag one, a power of it beyond.
    """
    sampler = HMC(FREE, 0.3, 4, "omelyan")
    start = torch.randn(300, 4, 6, generator=seeded(1), dtype=torch.float64)
    state = thermalise(sampler, sampler.init(start), 40, seeded(2))
    lengths = (0.6, 1.4, 3.2)
    best, state, costs = tune_cost(
        sampler, state, seeded(3), lambda x: x.mean((1, 2)), lengths, target=0.9, trajectories=150
    )
    for length, cost in zip(lengths, costs, strict=True):
        assert cost.trajectory_length == length
        assert 0.8 < cost.acceptance < 0.995
        rho = 1 - cost.acceptance + cost.acceptance * math.cos(math.sqrt(0.2) * length)
        # a finite record of N steps is short by about τ/N, and 300 chains give 8%
        assert cost.tau == pytest.approx(0.5 * (1 + rho) / (1 - rho), rel=0.4)
        assert cost.force_evaluations == pytest.approx(2 * cost.tau * 2 * cost.n_steps)
    assert best.trajectory_length == pytest.approx(3.2)
    assert best.integrator == "omelyan"
    assert best.force_evaluations == 2 * best.n_steps
    assert costs[2].force_evaluations < 0.5 * costs[0].force_evaluations
    assert state.x.shape == (300, 4, 6)


def test_impossible_searches_are_refused() -> None:
    sampler = HMC(FREE, 0.3, 4)
    many, one = (sampler.init(torch.zeros(n, 4, 6)) for n in (3, 1))
    for state, lengths, trajectories in (
        (many, (), 5),
        (many, (0.0,), 5),
        (one, (1.0,), 5),
        (many, (1.0,), 1),
    ):
        with pytest.raises(ValueError, match="expected positive lengths"):
            tune_cost(sampler, state, seeded(1), lambda x: x.mean((1, 2)), lengths, trajectories=trajectories)
