"""Single numbers of samplers and of their tuning, each by its formula."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from scipy.special import erfcinv
from torch import Generator, Tensor

from latflow.densities.flows import affine_flow
from latflow.samplers import (
    HMC,
    CycleState,
    EmbeddedClusters,
    HolonomyShift,
    RunningChains,
    Sampler,
    SectorHop,
    SectorState,
    flowed_hmc,
    metropolis_scan,
    run,
    tuning,
)
from latflow.samplers.base import KnownAction
from latflow.samplers.cycle import _Turn
from latflow.samplers.hmc import HMCInfo
from latflow.theories import Phi4, Schwinger, U1Gauge
from latflow.types import Draws

PHI4 = Phi4((4, 16), m2=1.0, lam=0.0)


def generator(seed: int = 1) -> Generator:
    return Generator().manual_seed(seed)


class At(NamedTuple):
    x: Tensor


@dataclass
class Count:
    accepted: Tensor


class Counter(Sampler[At, Count]):
    """A chain whose field is the number of its steps."""

    def init(self, x):
        return At(x)

    def step(self, state, *_):
        return At(state.x + 1), Count(torch.ones(len(state.x), dtype=torch.bool))

    def field(self, state):
        return state.x

    def state_from_dict(self, tree):
        return At(**tree)


def test_a_run_forgets_its_thermalisation():
    chain = run(Counter(), torch.zeros(2, 1), 3, lambda x: {"x": x[:, 0]}, generator(), thermalisation=10)
    assert chain.series["x"][:, 0].tolist() == [11.0, 12.0, 13.0]


def test_running_chains_make_the_steps_that_they_say():
    """Two chains, 5 steps of thermalisation once, 3 between draws: three draws are two rounds."""
    chains = RunningChains(Counter(), torch.zeros(2, 1), spacing=3, thermalisation=5)
    assert chains(3, generator())[:, 0].tolist() == [8.0, 8.0, 11.0]
    assert chains(2, generator())[:, 0].tolist() == [14.0, 14.0]


def test_the_acceptance_of_a_gain_is_one():
    delta_h = torch.tensor([-1.0, 0.0, math.log(2.0)], dtype=torch.float64)
    info = HMCInfo(torch.ones(3, dtype=torch.bool), delta_h)
    assert torch.allclose(info.acceptance_probability, torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64))


def test_alternatives_go_up_to_a_quarter_of_the_longest_side():
    """Of 16: lengths 1, 2, 4, and masses for ξ = 4 and 2. Latent variables have lengths to 2 and no mass."""
    found = HMC(PHI4, 0.1, 10).alternatives()
    assert [one["trajectory_length"] for one in found if len(one) == 1] == [1.0, 2.0, 4.0]
    assert {one["fourier_mass"] for one in found if len(one) == 2} == {1 / 16, 1 / 4}
    latent = flowed_hmc(affine_flow((4, 16), layers=0), PHI4, 0.1, 10).alternatives()
    assert latent == ({"trajectory_length": 1.0}, {"trajectory_length": 2.0})


def test_shifts_of_holonomies_go_all_around():
    """α in (−π, π]: of 400 uniform ones the largest is beyond 0.9 π but for a chance of 1e-17."""
    links = HolonomyShift(U1Gauge((4, 4), 1.0)).proposed(
        torch.zeros(400, 2, 4, 4), torch.rand(2, 400, generator=generator(), dtype=torch.float64)
    )
    for angles in (links[:, 0, 0, 0], links[:, 1, 0, 0]):
        assert 0.9 * math.pi < angles.abs().max() <= math.pi
        assert angles.min() < 0 < angles.max()


def test_an_action_of_minus_infinity_is_not_reached(monkeypatch):
    """Nor one of +∞: either would hold its chain for ever."""
    action = Schwinger((4, 4), 2.0, 0.2)
    hop = SectorHop(action)
    start = hop.init(torch.zeros(3, 2, 4, 4, dtype=torch.float64))
    reached = torch.tensor([-math.inf, math.inf, -1e9], dtype=torch.float64)
    monkeypatch.setattr(Schwinger, "__call__", lambda *_: reached)
    _, info = hop.step(start, generator())
    assert info.accepted.tolist() == [False, False, True]


def test_tau_from_the_spread_of_means():
    """τ = N Var(mean)/(2 Var): series that do not move within their N = 4 steps have τ = N/2 = 2."""
    series = torch.tensor([[1.0, 3.0, 7.0, 2.0]]).expand(4, -1)
    means, values = series[0].double().var(), series.double().var()
    assert tuning._tau_of_means(series) == pytest.approx(float(4 * means / (2 * values)))
    assert tuning._tau_of_means(torch.ones(4, 3)) == math.inf


def test_corrections_go_by_the_order():
    """log ε moves by log(erfc⁻¹(target)/erfc⁻¹(found))/p, at most by log 2."""
    for order in (2, 4):
        expected = math.log(erfcinv(0.8) / erfcinv(0.7)) / order
        assert tuning._correction(0.8, 0.7, order) == pytest.approx(expected)
    assert tuning._correction(0.8, 1e-4, 1) == -math.log(2)


def test_corrections_of_a_step_size_become_smaller(monkeypatch):
    """An acceptance that jumps at ε = 0.3 moves log ε by log 2/(1 + turns), one more turn at each jump.

    The result is the geometric mean over the second half of the rounds, made shorter until whole steps fit
    into the trajectory.
    """
    visited = []

    def acceptance(hmc, state, *_):
        visited.append(hmc.step_size)
        return state, 1e-3 if hmc.step_size > 0.3 else 1.0

    monkeypatch.setattr(tuning, "_acceptance", acceptance)
    hmc = HMC(PHI4, 4.0, 1)
    tuned, _ = tuning.tune_step_size(hmc, hmc.init(torch.zeros(2, 4, 16)), generator(), rounds=16)
    expected, up, turns = [4.0], False, 0
    for _ in range(16):
        turned = expected[-1] <= 0.3
        turns, up = turns + (turned != up), turned
        expected.append(expected[-1] * 2 ** ((1 if up else -1) / (1 + turns)))
    assert visited == pytest.approx(expected[:16])
    mean = math.exp(sum(map(math.log, expected[9:])) / 8)
    assert tuned.n_steps == math.ceil(4.0 / mean)
    assert tuned.step_size * tuned.n_steps == pytest.approx(4.0)


def test_cheap_forces_count_as_a_hundredth():
    """Of the 10 costly forces of a trajectory each comes with 4 cheap ones."""
    action = Schwinger((4, 4), 2.0, 0.2)
    assert tuning._counted_forces(HMC(action, 0.1, 10, inner_steps=4)) == pytest.approx(10 * 1.04)


class Proposing(Counter):
    """Each step comes with two draws for each chain, numbered in their order."""

    proposes = True

    def step_with_draws(self, state, *_):
        numbers = torch.arange(2.0 * len(state.x))
        return *self.step(state), Draws(numbers[:, None], numbers.double())


def test_draws_of_a_step_lie_batch_by_batch():
    """(draws of all steps, chains): those of three chains are 0, 1, 2 of the first batch, then 3, 4, 5."""
    _, block = Proposing().advance(At(torch.zeros(3, 1)), 2, lambda x: {"x": x[:, 0]}, generator())
    assert block.proposals is not None
    assert block.proposals["log_weight"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] * 2
    assert torch.equal(block.proposals["x"], block.proposals["log_weight"].float())


@pytest.mark.parametrize("chains", [1, 20])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_weight_that_is_no_number_is_never_held(chains, bad):
    proposed = torch.tensor([[bad], [0.5]], dtype=torch.float64).expand(2, chains)
    log_uniform = torch.full((2, chains), -0.1, dtype=torch.float64)
    held = metropolis_scan(proposed, log_uniform, torch.zeros(chains, dtype=torch.float64))
    assert held.tolist() == [[-1] * chains, [1] * chains]


def test_half_of_the_clusters_of_signs_are_turned():
    """Of 4096 sites whose values are so small that no two are joined; the spread is 32."""
    action = Phi4((64, 64), m2=1.0, lam=1.0)
    x = torch.full((1, 64, 64), 1e-6, dtype=torch.float64)
    turned = EmbeddedClusters(action)._turned(x, generator())
    assert torch.equal(turned.abs(), x)
    assert abs(int((turned < 0).sum()) - 2048) < 5 * 32


def test_a_kernel_is_told_the_actions_of_those_chains_that_moved():
    """Chains 1 and 3 of four: of these what the kernel before knows, of the others what it knew itself."""
    action, x = U1Gauge((4, 4), 1.0), torch.zeros(4, 2, 4, 4)
    own = SectorState(x, torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64))
    stale = torch.tensor([[False], [True], [False], [True]])
    known = KnownAction(action, torch.tensor([10.0, 11.0, 12.0, 13.0], dtype=torch.float64))
    found = _Turn(CycleState(x, (own,), stale), known).brought_to(0, SectorHop(action))
    assert found.action.tolist() == [0.0, 11.0, 2.0, 13.0]
