"""Hybrid Monte Carlo against energy conservation, reversibility, exact answers and published ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from latflow.errors import LatflowError
from latflow.fields import SCALAR, FieldKind
from latflow.lattice import lattice_momentum_squared, volume
from latflow.samplers import (
    HMC,
    INTEGRATORS,
    LEAPFROG,
    OMELYAN,
    Integrator,
    integrate,
    run,
    thermalise,
    tune_step_size,
)
from latflow.theories import XY, Action, Exponential, HoppingPhi4, Phi4, U1Gauge

Trajectory = Callable[..., tuple[Tensor, Tensor, Tensor]]

INTERACTING = Phi4((6, 4), m2=-4.0, lam=8.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hot(action: Action, chains: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 0.3 * torch.randn(chains, *action.lattice, generator=seeded(seed), dtype=dtype)


def moments(x: Tensor) -> dict[str, Tensor]:
    sites = x.flatten(1).double()
    return {"phi_squared": (sites**2).mean(1), "V_m_squared": sites.shape[1] * sites.mean(1) ** 2}


def over_chains(series: Tensor) -> tuple[float, float]:
    """Mean and standard error of (step, chain), the spread taken over the means of independent chains."""
    means = series.double().mean(0)
    return float(means.mean()), float(means.std()) / math.sqrt(len(means))


def assert_within_five_sigma(series: Tensor, expected: float, expected_error: float = 0.0) -> None:
    value, error = over_chains(series)
    sigma = math.hypot(error, expected_error)
    assert abs(value - expected) < 5 * sigma, f"{value} ± {error} against {expected} ± {expected_error}"


# --- integrators ----------------------------------------------------------------------------------


def energy(x: Tensor, momentum: Tensor) -> Tensor:
    return INTERACTING(x) + 0.5 * (momentum**2).flatten(1).sum(1)


def slope_of_delta_h(scheme: Integrator, trajectory: Trajectory) -> float:
    """d log rms(ΔH) / d log ε at trajectory length 1, from ε = 1/20 and 1/80."""
    x, momentum = (
        hot(INTERACTING, 200, seed=1),
        torch.randn(200, 6, 4, generator=seeded(2), dtype=torch.float64),
    )
    rms = []
    for n_steps in (20, 80):
        end = trajectory(scheme, INTERACTING.force, x, momentum, INTERACTING.force(x), 1 / n_steps, n_steps)
        rms.append(float((energy(*end[:2]) - energy(x, momentum)).square().mean().sqrt()))
    return math.log(rms[0] / rms[1]) / math.log(4) if min(rms) > 0 else math.nan


def last_kick_lost(
    scheme: Integrator, force: Callable, *start: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    x, momentum, final_force = integrate(scheme, force, *start)
    return x, momentum - scheme.kicks[-1] * start[3] * final_force, final_force


def kicks_not_merged(
    scheme: Integrator, force: Callable, *start: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Half a kick where a whole one is due between two steps."""
    x, momentum, _, step_size, n_steps = start
    for _ in range(n_steps):
        x, momentum, _ = integrate(scheme, force, x, momentum, force(x), step_size, 1)
        momentum = momentum - scheme.kicks[-1] * step_size * force(x)
    return x, momentum, force(x)


def state_thrown_away(
    scheme: Integrator, force: Callable, *start: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    integrate(scheme, force, *start)
    return start[0], start[1], start[2]


@pytest.mark.parametrize("scheme", [LEAPFROG, OMELYAN], ids=lambda scheme: scheme.name)
def test_delta_h_is_quadratic_in_the_step_size(scheme: Integrator) -> None:
    assert slope_of_delta_h(scheme, integrate) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("broken", [last_kick_lost, kicks_not_merged, state_thrown_away])
@pytest.mark.parametrize("scheme", [LEAPFROG, OMELYAN], ids=lambda scheme: scheme.name)
def test_the_slope_of_delta_h_catches_broken_integrators(scheme: Integrator, broken: Trajectory) -> None:
    assert slope_of_delta_h(scheme, broken) != pytest.approx(2, abs=0.1, nan_ok=True)


def test_omelyan_conserves_the_energy_better_at_equal_cost() -> None:
    x, momentum = (
        hot(INTERACTING, 100, seed=3),
        torch.randn(100, 6, 4, generator=seeded(4), dtype=torch.float64),
    )
    rms = {}
    for scheme, n_steps in ((LEAPFROG, 40), (OMELYAN, 20)):
        end = integrate(scheme, INTERACTING.force, x, momentum, INTERACTING.force(x), 1 / n_steps, n_steps)
        rms[scheme.name] = float((energy(*end[:2]) - energy(x, momentum)).square().mean().sqrt())
    # the error constants differ by a factor of about 10 at equal ε, by 10 / 4 at equal cost
    assert rms["omelyan"] < 0.6 * rms["leapfrog"]


@pytest.mark.parametrize("scheme", [LEAPFROG, OMELYAN], ids=lambda scheme: scheme.name)
def test_trajectories_are_reversible(scheme: Integrator) -> None:
    force = INTERACTING.force
    x, momentum = (
        hot(INTERACTING, 50, seed=5),
        torch.randn(50, 6, 4, generator=seeded(6), dtype=torch.float64),
    )
    there = integrate(scheme, force, x, momentum, force(x), 0.1, 10)
    back = integrate(scheme, force, there[0], -there[1], there[2], 0.1, 10)
    assert float((there[0] - x).abs().mean()) > 0.1
    torch.testing.assert_close(back[0], x, rtol=0, atol=1e-10)
    torch.testing.assert_close(back[1], -momentum, rtol=0, atol=1e-10)
    torch.testing.assert_close(there[2], force(there[0]), rtol=0, atol=0)


def test_the_number_of_force_evaluations_is_the_least_possible() -> None:
    calls = []

    def force(x: Tensor) -> Tensor:
        calls.append(1)
        return INTERACTING.force(x)

    x = hot(INTERACTING, 2)
    for scheme, per_step in ((LEAPFROG, 1), (OMELYAN, 2)):
        calls.clear()
        integrate(scheme, force, x, x, INTERACTING.force(x), 0.1, 7)
        assert len(calls) == 7 * per_step


@pytest.mark.parametrize(
    ("kicks", "drifts"),
    [
        ((0.5, 0.5), ()),
        ((0.5, 0.5), (0.5, 0.5)),
        ((0.4, 0.6), (1.0,)),
        ((0.5, 0.4), (1.0,)),
        ((0.5, 0.5), (0.9,)),
    ],
)
def test_coefficients_that_cannot_be_exact_are_refused(
    kicks: tuple[float, ...], drifts: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        Integrator("broken", kicks, drifts)


# --- the sampler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("integrator", ["leapfrog", "omelyan"])
def test_the_mean_of_exp_minus_delta_h_is_one(integrator: str, dtype: torch.dtype) -> None:
    action = Phi4((4, 4), m2=-1.0, lam=1.0)
    sampler = HMC.of_length(action, 1.0, 5 if integrator == "leapfrog" else 3, integrator)
    chain = run(sampler, hot(action, 400, 8, dtype), 60, moments, seeded(9), thermalisation=30)
    delta_h = chain.series["delta_h"]
    assert delta_h.dtype == torch.float64
    # only where trajectories do violate the energy is the identity worth a test
    assert 0.1 < float(delta_h.std()) < 0.6
    assert_within_five_sigma(torch.exp(-delta_h.double()), 1.0)
    # in equilibrium ⟨min(1, exp(−ΔH))⟩ is the rate at which trajectories are accepted
    probability = torch.exp(-delta_h.double()).clamp(max=1)
    assert_within_five_sigma(chain.series["accepted"].double() - probability, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("lattice", [(12,), (6, 4), (4, 3, 2)], ids=str)
def test_free_field_is_exact(lattice: tuple[int, ...], dtype: torch.dtype) -> None:
    m2 = 1.25
    action = Phi4(lattice, m2=m2, lam=0.0)
    # short enough that no mode comes near half a period, ωτ = π, where it would keep its amplitude
    sampler = HMC(action, step_size=0.25, n_steps=2)
    chain = run(sampler, hot(action, 500, 10, dtype), 150, moments, seeded(11), thermalisation=60)
    exact = float((0.5 / (lattice_momentum_squared(lattice) + m2)).sum()) / volume(lattice)
    assert chain.state.x.dtype == dtype
    assert float(chain.series["accepted"].double().mean()) < 0.99
    assert_within_five_sigma(chain.series["phi_squared"], exact)
    assert_within_five_sigma(chain.series["V_m_squared"], 1 / (2 * m2))


def test_phi4_at_8x8_agrees_with_the_reference() -> None:
    action = Phi4((8, 8), m2=-4.0, lam=8.0)
    chain = run(
        HMC.of_length(action, 1.0, 8), hot(action, 256, 12), 300, moments, seeded(13), thermalisation=40
    )
    assert_within_five_sigma(chain.series["phi_squared"], 0.14345, 0.00004)
    assert_within_five_sigma(chain.series["V_m_squared"], 0.7431, 0.0023)


@pytest.mark.parametrize(
    ("length", "lam", "expected", "error"), [(6, 6.975, 1.068, 0.004), (10, 5.550, 2.908, 0.017)]
)
def test_points_of_albergo_et_al(length: int, lam: float, expected: float, error: float) -> None:
    action = Phi4((length, length), m2=-4.0, lam=lam)
    sampler = HMC.of_length(action, 1.5, 10)
    chain = run(sampler, hot(action, 256, 14), 200, moments, seeded(15), thermalisation=60)
    assert_within_five_sigma(chain.series["V_m_squared"], expected, error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "beta", "expected", "error"), [(16, 0.634, 21.86, 0.19), (20, 0.645, 33.2, 0.4)]
)
def test_points_of_trivializing_flows(length: int, beta: float, expected: float, error: float) -> None:
    action = HoppingPhi4((length, length), beta=beta, lam=0.5)
    sampler = HMC.of_length(action, 1.0, 6, "omelyan")
    # τ_M is 74 and 118 trajectories: several of them pass before the record begins
    chain = run(sampler, hot(action, 128, 16), 2000, moments, seeded(17), thermalisation=800)
    assert_within_five_sigma(chain.series["V_m_squared"], expected, error)


def test_one_chain_alone_follows_the_same_law() -> None:
    action = Phi4((2, 2), m2=1.25, lam=0.0)
    chain = run(HMC(action, 0.25, 3), hot(action, 1), 1500, moments, seeded(18), thermalisation=50)
    # τ is about 1, so stretches of 50 steps are independent enough to give the spread
    stretches = chain.series["phi_squared"].reshape(30, 50).T
    exact = float((0.5 / (lattice_momentum_squared((2, 2)) + 1.25)).mean())
    assert_within_five_sigma(stretches, exact)


def test_rejected_chains_stay_and_accepted_ones_carry_their_action_and_force() -> None:
    sampler = HMC(INTERACTING, 0.2, 4)
    state = thermalise(sampler, sampler.init(hot(INTERACTING, 64)), 20, seeded(19))
    new, info = sampler.step(state, seeded(20))
    assert 0 < int(info.accepted.sum()) < 64
    same = (new.x == state.x).flatten(1).all(1)
    assert torch.equal(same, ~info.accepted)
    torch.testing.assert_close(new.action, INTERACTING(new.x), rtol=1e-13, atol=0)
    torch.testing.assert_close(new.force, INTERACTING.force(new.x), rtol=0, atol=1e-12)
    expected = torch.exp(-info.delta_h).clamp(max=1)
    torch.testing.assert_close(info.acceptance_probability, expected)


def test_a_trajectory_that_overflows_is_rejected() -> None:
    sampler = HMC(INTERACTING, 3.0, 20)
    state = sampler.init(hot(INTERACTING, 16))
    new, info = sampler.step(state, seeded(21))
    assert not bool(info.accepted.any())
    assert bool((info.delta_h == torch.inf).all())
    assert torch.equal(new.x, state.x)
    assert torch.equal(info.acceptance_probability, torch.zeros(16, dtype=torch.float64))


@dataclass(frozen=True)
class Downhill(Action):
    """An action that falls to −∞, as numbers that overflow can make one do."""

    lattice: tuple[int, ...] = (1,)
    kind: ClassVar[FieldKind] = SCALAR

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, -torch.inf, x[:, 0])


def test_an_infinite_gain_is_rejected_too() -> None:
    _, info = HMC(Downhill(), 1.0, 1).step(HMC(Downhill(), 1.0, 1).init(-torch.ones(50, 1)), seeded(22))
    assert bool((info.delta_h == torch.inf).any())
    assert not bool(info.accepted[info.delta_h == torch.inf].any())


def test_actions_without_a_closed_force_run_and_leave_no_graph() -> None:
    rate = Exponential(2.0)
    sampler = HMC(rate, 0.3, 3)
    chain = run(
        sampler, torch.full((400, 1), 0.5, dtype=torch.float64), 400, lambda x: {"x": x}, seeded(23), 50
    )
    assert not chain.state.force.requires_grad
    assert_within_five_sigma(chain.series["x"][..., 0], 0.5)


@pytest.mark.parametrize(
    ("step_size", "n_steps", "integrator"),
    [
        (0.0, 5, "leapfrog"),
        (-0.1, 5, "leapfrog"),
        (math.nan, 5, "leapfrog"),
        (math.inf, 5, "leapfrog"),
        (0.1, 0, "leapfrog"),
        (0.1, 5, "euler"),
    ],
)
def test_impossible_settings_are_refused(step_size: float, n_steps: int, integrator: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        HMC(INTERACTING, step_size, n_steps, integrator)


def test_starts_that_cannot_move_are_refused() -> None:
    sampler = HMC(INTERACTING, 0.1, 5)
    with pytest.raises(ValueError, match=r"expected a scalar field on the lattice \(6, 4\), a tensor"):
        sampler.init(torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match="finite action"):
        sampler.init(torch.full((2, 6, 4), torch.nan))


def test_integrators_go_by_name_or_by_table() -> None:
    assert HMC(INTERACTING, 0.1, 5, "minimum_norm").scheme is INTEGRATORS["omelyan"]
    assert HMC(INTERACTING, 0.1, 5, OMELYAN).scheme is OMELYAN
    by_length = HMC.of_length(INTERACTING, 2.0, 8)
    assert (by_length.step_size, by_length.n_steps, by_length.trajectory_length) == (0.25, 8, 2.0)


# --- tuning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1.0, 0.01], ids=["too-long", "too-short"])
@pytest.mark.parametrize(("target", "integrator"), [(0.7, "leapfrog"), (0.9, "leapfrog"), (0.8, "omelyan")])
def test_tuning_reaches_the_target(first: float, target: float, integrator: str) -> None:
    action = Phi4((8, 8), m2=-4.0, lam=8.0)
    start = HMC.of_length(action, 2.0, round(2 / first), integrator)
    generator = seeded(24)
    tuned, state = tune_step_size(
        start, start.init(hot(action, 32)), generator, target, rounds=12, trajectories=4
    )
    assert tuned.trajectory_length == pytest.approx(2.0)
    assert tuned.integrator == integrator
    chain = run(tuned, state, 30, moments, generator)
    # the next whole number of steps adds up to 0.07; a mean over 960 trajectories has an error of 0.01
    acceptance = float(torch.exp(-chain.series["delta_h"]).clamp(max=1).mean())
    assert target - 0.04 < acceptance < target + 0.1


def test_tuning_refuses_what_it_cannot_reach() -> None:
    sampler = HMC(INTERACTING, 0.1, 5)
    state = sampler.init(hot(INTERACTING, 4))
    for target in (0.0, 1.0, 1.2):
        with pytest.raises(ValueError, match="target"):
            tune_step_size(sampler, state, seeded(25), target)
    with pytest.raises(ValueError, match="rounds=0"):
        tune_step_size(sampler, state, seeded(25), rounds=0)
    endless = HMC(INTERACTING, 500.0, 2)
    with pytest.raises(LatflowError, match="no trajectory of length 1000"):
        tune_step_size(endless, state, seeded(25), rounds=2, trajectories=1)


def test_jitter_frees_a_mode_whose_half_period_is_the_trajectory():
    """One oscillator, S = m²φ² with ωτ = π: without jitter it returns to where it started, for ever."""
    action = Phi4((1,), m2=math.pi**2 / 2, lam=0.0)
    start = torch.zeros(2000, 1, dtype=torch.float64)

    def phi_squared(jitter):
        hmc = HMC.of_length(action, 1.0, 40, "omelyan", jitter)
        chain = run(hmc, start, 20, lambda x: {"phi_squared": x[:, 0] ** 2}, seeded(5), thermalisation=60)
        return chain.series["phi_squared"]

    assert phi_squared(0.0).mean() < 0.01 / math.pi**2
    # 2000 chains, each averaged over its steps: the spread of the chains is that of the mean
    means = phi_squared(0.2).mean(0)
    assert abs(means.mean() - 1 / math.pi**2) < 5 * means.std() / math.sqrt(2000)


@pytest.mark.parametrize("jitter", [-0.1, 1.0, math.nan])
def test_jitter_out_of_range_is_refused(jitter):
    with pytest.raises(ValueError, match="jitter"):
        HMC(Phi4((4,), 1.0, 0.0), 0.1, 10, jitter=jitter)


def links_at(beta: float, side: int) -> Tensor:
    """Four fields of links whose plaquettes spread about as they do at this coupling."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 2, side, side, generator=generator, dtype=torch.float64) / math.sqrt(4 * beta)


WIDE = Phi4((128, 128), m2=-4.0, lam=8.0)


@pytest.mark.parametrize(
    ("action", "start", "most"),
    [
        (U1Gauge((256, 256), 20.0), links_at(20.0, 256), 1e-4),
        (XY((128, 128), 20.0), links_at(20.0, 128)[:, 0], 1e-4),
        (Phi4((128, 128), m2=-4.0, lam=8.0), links_at(1.0, 128)[:, 0], 1e-4),
        (
            Phi4((128, 128), m2=-4.0, lam=8.0) + Phi4((128, 128), m2=1.0, lam=0.0),
            links_at(1.0, 128)[:, 0],
            1e-4,
        ),
    ],
    ids=["links", "angles", "scalars", "sum"],
)
def test_energies_of_large_volumes_keep_their_differences_in_single_precision(action, start, most) -> None:
    """Tiny steps conserve the energy to 10⁻⁶; summed in float32 ΔH was rounding of the size of 0.1."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        generator = torch.Generator().manual_seed(2)
        sampler = HMC(action, 1e-4, 2)
        state, deltas = sampler.init(start.to(dtype)), []
        for _ in range(3):
            state, info = sampler.step(state, generator)
            deltas.append(info.delta_h)
        found[dtype] = torch.stack(deltas)
    assert found[torch.float32].dtype == torch.float64
    assert float(found[torch.float32].abs().max()) < 3 * most
    assert float(found[torch.float64].abs().max()) < 1e-5


def test_the_jitter_lies_around_the_step_size() -> None:
    """ε (1 + j (2u − 1)): from ε (1 − j) over ε at u = ½ to ε (1 + j)."""
    hmc = HMC(Phi4((2, 2), m2=1.0, lam=0.0), 0.5, 4, jitter=0.2)
    uniform = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert torch.allclose(
        hmc._steps({"jitter": uniform}), 0.5 * (1 + torch.tensor([-0.2, 0.0, 0.2]).double())
    )
