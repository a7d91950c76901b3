"""Hybrid Monte Carlo through flows: exact whatever the flow, and visibly wrong where a sign or a kick is."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cases import CASES, Case, perturbed, thinned
from latflow import exact, observables
from latflow.densities.flows import (
    Bijection,
    CircularSpline,
    Compose,
    Flow,
    Inverse,
    MinimalNetwork,
    Pullback,
    Scale,
    Spline,
    affine_flow,
    gauge_flow,
    minimal_flow,
    spline_flow,
)
from latflow.fields import LINKS, SCALAR, FieldKind
from latflow.samplers import (
    HMC,
    LEAPFROG,
    OMELYAN,
    Integrator,
    flowed_hmc,
    integrate,
    run,
    run_blocks,
    thermalise,
    tune_step_size,
)
from latflow.storage import load_tree, save_tree
from latflow.theories import Action, Evaluation, Ising, Phi4, Schwinger, U1Gauge

INTERACTING = Phi4((4, 6), m2=-1.0, lam=1.0)
CASES = [
    *CASES,
    Case("minimal flow", lambda d: minimal_flow((2,) * d).bijection, z2=True, exact_z2=True),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def moments(x: Tensor) -> dict[str, Tensor]:
    sites = x.flatten(1).double()
    return {"phi_squared": (sites**2).mean(1), "V_m_squared": sites.shape[1] * sites.mean(1) ** 2}


def deviation(series: Tensor, expected: float, expected_error: float = 0.0) -> float:
    """In sigma, of the mean of (step, chain); the spread is that of the means of independent chains."""
    means = series.double().mean(0)
    sigma = math.hypot(float(means.std()) / math.sqrt(len(means)), expected_error)
    return abs(float(means.mean()) - expected) / sigma


def small_gauge_flow(lattice: tuple[int, ...], size: float = 0.06, **options) -> Flow:
    options = {"layers": 8, "bins": 4, "hidden": (4,), "dilation": 1, "activation": "silu"} | options
    return perturbed(gauge_flow(lattice, **options).double(), size)


# --- the action -----------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_action_is_that_of_the_field_less_the_volume_of_the_jacobian(case: Case, direction: str) -> None:
    """Against the full Jacobian matrix of automatic differentiation, and the force against differences."""
    bijection = case.perturbed(2)
    bijection = bijection if direction == "forward" else Inverse(bijection)
    action = Phi4((2, 4), m2=-1.0, lam=1.0)
    pullback, z = Pullback(action, bijection), 0.7 * normal(3, 2, 4, seed=1)
    for i in range(3):
        matrix = torch.autograd.functional.jacobian(lambda y: bijection.forward(y)[0].flatten(), z[i : i + 1])
        log_det = torch.linalg.slogdet(matrix.reshape(8, 8)).logabsdet
        expected = action(bijection.forward(z[i : i + 1])[0]) - log_det
        torch.testing.assert_close(pullback(z[i : i + 1]), expected.detach(), rtol=1e-8, atol=1e-8)
    towards = normal(3, 2, 4, seed=2)
    slope = (pullback(z + 1e-6 * towards) - pullback(z - 1e-6 * towards)) / 2e-6
    force = pullback.force(z)
    torch.testing.assert_close((force * towards).flatten(1).sum(1), -slope, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(force, Action.force(pullback, z), rtol=1e-10, atol=1e-10)
    assert not force.requires_grad
    value, again, field = pullback.evaluate(z)
    torch.testing.assert_close(value, pullback(z).detach(), rtol=1e-13, atol=1e-12)
    assert torch.equal(again, force)
    assert torch.equal(field, bijection.forward(z)[0].detach())
    torch.testing.assert_close(pullback.coordinates(field), z, rtol=1e-8, atol=1e-8)
    assert not any(part.requires_grad for part in (value, again, field))


@pytest.mark.parametrize("scalar_map", ["spline", "projection"])
def test_the_force_of_links_is_minus_the_gradient(scalar_map: str) -> None:
    action = Schwinger((4, 8), beta=1.5, kappa=0.2)
    pullback = Pullback(action, small_gauge_flow((4, 8), scalar_map=scalar_map))
    z, towards = normal(2, 2, 4, 8, seed=1), normal(2, 2, 4, 8, seed=2)
    slope = (pullback(z + 1e-6 * towards) - pullback(z - 1e-6 * towards)) / 2e-6
    force = (pullback.force(z) * towards).flatten(1).sum(1)
    torch.testing.assert_close(force, -slope, rtol=1e-5, atol=1e-5)
    assert (pullback.kind, pullback.lattice, pullback.field_shape) == (LINKS, (4, 8), (2, 4, 8))
    assert not pullback.z2_symmetric


def test_pulling_back_twice_composes_the_flows() -> None:
    first, second = CASES[8].perturbed(2), CASES[2].perturbed(2)
    z = normal(3, 4, 6, seed=1)
    twice = Pullback(Pullback(INTERACTING, second), first)
    once = Pullback(INTERACTING, Compose(first, second))
    for mine, other in zip(twice.evaluate(z), once.evaluate(z), strict=True):
        torch.testing.assert_close(mine, other)
    torch.testing.assert_close(twice.coordinates(once.evaluate(z).field), z)
    torch.testing.assert_close(twice(z), once(z))
    scaled = 2.0 * Pullback(INTERACTING, second) + Pullback(INTERACTING, second)
    torch.testing.assert_close(scaled.evaluate(z).value, 3 * Pullback(INTERACTING, second)(z).detach())
    torch.testing.assert_close(scaled.coordinates(second.forward(z)[0]), z)


def test_training_the_flow_afterwards_changes_nothing() -> None:
    flow = perturbed(affine_flow((4, 6), layers=2, hidden=(4,)).double())
    pullback, z = Pullback(INTERACTING, flow), normal(2, 4, 6, seed=1)
    before = pullback(z)
    perturbed(flow)
    assert torch.equal(pullback(z), before)
    assert all(p.requires_grad for p in flow.parameters())
    assert not any(p.requires_grad for p in pullback.flow.parameters())


def test_a_flow_of_another_lattice_is_refused() -> None:
    flow = minimal_flow((4, 4))
    with pytest.raises(ValueError, match=r"expected a flow on the lattice \(4, 6\), got one on \(4, 4\)"):
        Pullback(INTERACTING, flow)
    assert Pullback(INTERACTING, flow.on_lattice((4, 6))).lattice == (4, 6)
    with pytest.raises(ValueError, match="expected a field that flows can move, got discrete spins"):
        Pullback(Ising((4, 4), 0.4), flow)


# --- trajectories ---------------------------------------------------------------------------------


def has_kinks(bijection: Bijection) -> bool:
    """Whether the force jumps somewhere: the second derivative of a spline does, and the slope of ReLUs."""
    return any(
        isinstance(getattr(module, "scalar_map", None), Spline | CircularSpline)
        or (getattr(module, "activation", None) is functional.leaky_relu)
        for module in bijection.modules()
    )


def slope_of_delta_h(
    action: Action, z: Tensor, scheme: Integrator = LEAPFROG, trajectory: Callable = integrate
) -> float:
    """d log rms(ΔH) / d log ε at trajectory length ½, from ε = 1/80 and 1/320."""
    momentum, rms = normal(*z.shape, seed=2), []

    def energy(x: Tensor, pi: Tensor) -> Tensor:
        return action(x) + 0.5 * (pi**2).flatten(1).sum(1)

    with torch.no_grad():
        for n_steps in (40, 160):
            end = trajectory(scheme, action.force, z, momentum, action.force(z), 0.5 / n_steps, n_steps)
            rms.append(float((energy(*end[:2]) - energy(z, momentum)).square().mean().sqrt()))
    return math.log(rms[0] / rms[1]) / math.log(4)


def last_kick_lost(scheme: Integrator, force: Callable, *start) -> tuple[Tensor, Tensor, Tensor]:
    x, momentum, final = integrate(scheme, force, *start)
    return x, momentum - scheme.kicks[-1] * start[3] * final, final


SMOOTH = [case for case in CASES if not has_kinks(case.perturbed(2, 0.1))]
"""Where the force jumps, each crossing costs O(ε) of energy, and the slope says nothing."""


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.name)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_delta_h_is_quadratic_in_the_step_size_where_the_force_is_continuous(
    case: Case, direction: str
) -> None:
    bijection = case.perturbed(2, 0.1)
    bijection = bijection if direction == "forward" else Inverse(bijection)
    with torch.no_grad():
        z = bijection.inverse(0.3 * normal(40, 4, 6, seed=1))[0]
    slope = slope_of_delta_h(Pullback(INTERACTING, bijection), z)
    assert abs(slope - 2) < 0.1


@pytest.mark.parametrize("scheme", [LEAPFROG, OMELYAN], ids=lambda scheme: scheme.name)
def test_the_slope_catches_a_lost_kick(scheme: Integrator) -> None:
    flow = perturbed(minimal_flow((4, 6)).double())
    pullback, z = Pullback(INTERACTING, flow), 0.3 * normal(40, 4, 6, seed=1)
    assert abs(slope_of_delta_h(pullback, z, scheme) - 2) < 0.1
    assert abs(slope_of_delta_h(pullback, z, scheme, last_kick_lost) - 2) > 0.5


@pytest.mark.parametrize("masks", ["diagonal", pytest.param("stripes", marks=pytest.mark.slow)])
def test_delta_h_is_quadratic_through_a_smooth_gauge_flow(masks: str) -> None:
    flow = small_gauge_flow((4, 8), masks=masks, scalar_map="projection")
    z = 0.5 * normal(20, 2, 4, 8, seed=1)
    assert abs(slope_of_delta_h(Pullback(U1Gauge((4, 8), 2.0), flow), z) - 2) < 0.1


@every_case
def test_trajectories_through_every_flow_are_reversible(case: Case) -> None:
    bijection = case.perturbed(2, 0.1)
    force = Pullback(INTERACTING, bijection).force
    with torch.no_grad():
        z = bijection.inverse(0.3 * normal(20, 4, 6, seed=1))[0]
        momentum = normal(20, 4, 6, seed=2)
        there = integrate(OMELYAN, force, z, momentum, force(z), 0.05, 8)
        back = integrate(OMELYAN, force, there[0], -there[1], there[2], 0.05, 8)
    assert float((there[0] - z).abs().mean()) > 0.1
    torch.testing.assert_close(back[0], z, rtol=0, atol=1e-8)
    torch.testing.assert_close(back[1], -momentum, rtol=0, atol=1e-8)


@pytest.mark.parametrize("case", thinned(CASES, 4), ids=lambda case: case.name)
def test_exp_minus_delta_h_averages_to_one_through_every_flow(case: Case) -> None:
    """And ⟨φ²⟩ is right, against the transfer matrix."""
    bijection, start = case.perturbed(2), 0.4 * normal(150, 4, 4, seed=3)
    with torch.no_grad():  # tame enough for short trajectories, yet not the identity
        for p in bijection.parameters():
            p *= 0.4
        change = float((bijection.forward(start)[0] - start).abs().max())
    assert case.name == "nothing" or change > 0.01
    first = flowed_hmc(bijection, Phi4((4, 4), m2=-1.0, lam=1.0), 0.2, 3, jitter=0.2)
    sampler, state = tune_step_size(first, first.init(start), seeded(5), 0.8, rounds=12, trajectories=1)
    chain = run(sampler, state, 30, moments, seeded(4), thermalisation=5)
    assert 0.6 < float(chain.series["accepted"].double().mean()) < 0.98
    assert deviation(torch.exp(-chain.series["delta_h"]), 1.0) < 5
    assert deviation(chain.series["phi_squared"], exact.phi4_phi_squared((4, 4), -1.0, 1.0).value) < 5


# --- exactness ------------------------------------------------------------------------------------


FLOWS: dict[str, Callable[[tuple[int, ...]], Flow]] = {
    "affine": lambda lattice: affine_flow(lattice, layers=2, hidden=(4,), activation="silu"),
    "affine z2, fourier": lambda lattice: affine_flow(lattice, layers=2, hidden=(4,), z2=True, fourier=True),
    "spline": lambda lattice: spline_flow(lattice, layers=2, bins=4, hidden=(4,), kernel=(3, 1), site_bins=4),
    "minimal": minimal_flow,
}


@pytest.mark.parametrize(
    "name", [name if name == "minimal" else pytest.param(name, marks=pytest.mark.slow) for name in FLOWS]
)
def test_phi4_at_8x8_through_untrained_perturbed_flows(name: str) -> None:
    """m² = −4, λ = 8: ⟨φ²⟩ = 0.14345(4), V⟨M²⟩ = 0.7431(23)."""
    action = Phi4((8, 8), m2=-4.0, lam=8.0)
    flow = perturbed(FLOWS[name]((8, 8)).double(), 0.1)
    flow = Flow(flow.prior, Compose(flow.bijection, Scale(math.log(0.4)).double()))
    sampler = flowed_hmc(flow, action, 0.2, 4, "omelyan", jitter=0.2)
    state = sampler.init_latent(normal(96, 8, 8, seed=5))
    chain = run(sampler, state, 40, moments, seeded(7), thermalisation=20)
    assert 0.4 < float(chain.series["accepted"].double().mean()) < 0.995
    assert deviation(chain.series["phi_squared"], 0.14345, 0.00004) < 5
    assert deviation(chain.series["V_m_squared"], 0.7431, 0.0023) < 5


def free_field_deviation(sampler: HMC, dtype: torch.dtype = torch.float64) -> tuple[float, float]:
    """How far ⟨φ²⟩ and V⟨M²⟩ of a free field with m² = 1.25 come out from the closed forms."""
    lattice = sampler.action.lattice
    start = 0.5 * normal(300, *lattice, seed=8, dtype=dtype)
    chain = run(sampler, start, 80, moments, seeded(9), thermalisation=20)
    assert (chain.state.x.dtype, chain.series["delta_h"].dtype) == (dtype, torch.float64)
    phi_squared = exact.free_field_phi_squared(lattice, 1.25)
    return (
        deviation(chain.series["phi_squared"], phi_squared),
        deviation(chain.series["V_m_squared"], exact.free_field_zero_mode(1.25)),
    )


def free_sampler(dtype: torch.dtype = torch.float64) -> HMC:
    """Through a flow whose volume changes much from one configuration to the next."""
    flow = perturbed(minimal_flow((4, 6)).double()).to(dtype)
    for module in flow.modules():
        if isinstance(module, MinimalNetwork):
            module.slope.data.fill_(1.2)
    return flowed_hmc(flow, Phi4((4, 6), m2=1.25, lam=0.0), 0.25, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_free_field_through_a_perturbed_flow(dtype: torch.dtype) -> None:
    assert max(free_field_deviation(free_sampler(dtype), dtype)) < 5


@dataclasses.dataclass(frozen=True, eq=False)
class WrongSign(Pullback):
    """S(f(z)) + log |det J|."""

    def __call__(self, x: Tensor) -> Tensor:
        field, log_det = self.flow.forward(x)
        return self.action(field) + log_det

    def force(self, x: Tensor) -> Tensor:
        return Action.force(self, x)

    def evaluate(self, x: Tensor):
        return Evaluation(self(x), self.force(x), super().evaluate(x).field)


@dataclasses.dataclass(frozen=True)
class HalfStepLost(HMC):
    """The last half kick is forgotten."""

    def _trajectory(self, state, momentum, step_size, evaluate=None):
        end, final = super()._trajectory(state, momentum, step_size, evaluate)
        return end, final - self.scheme.kicks[-1] * step_size * end.force


def test_a_wrong_sign_of_the_jacobian_fails_the_exactness_test() -> None:
    right = free_sampler()
    broken = dataclasses.replace(right, action=WrongSign(right.action.action, right.action.flow))
    assert max(free_field_deviation(broken)) > 8


def test_a_lost_half_step_fails_the_exactness_test() -> None:
    right = free_sampler()
    assert max(free_field_deviation(HalfStepLost(right.action, right.step_size, right.n_steps))) > 8


def links(x: Tensor) -> dict[str, Tensor]:
    return {
        "plaquette": observables.plaquette(x),
        "charge_squared": observables.topological_charge(x) ** 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scalar_map", "direction"), [("spline", "forward"), ("spline", "inverse"), ("projection", "forward")]
)
def test_u1_through_untrained_perturbed_gauge_flows(scalar_map: str, direction: str) -> None:
    lattice, beta = (4, 4), 1.0
    flow = small_gauge_flow(lattice, scalar_map=scalar_map)
    bijection = flow.bijection if direction == "forward" else Inverse(flow.bijection)
    sampler = flowed_hmc(bijection, U1Gauge(lattice, beta), 0.3, 4)
    start = math.pi * (2 * torch.rand(48, 2, *lattice, generator=seeded(10), dtype=torch.float64) - 1)
    chain = run(sampler, start, 24, links, seeded(11), thermalisation=8)
    assert 0.2 < float(chain.series["accepted"].double().mean()) < 0.99
    assert deviation(torch.exp(-chain.series["delta_h"]), 1.0) < 5
    assert deviation(chain.series["plaquette"], exact.u1_plaquette(lattice, beta)) < 5
    assert deviation(chain.series["charge_squared"], exact.u1_charge_squared(lattice, beta)) < 5


# --- the sampler ----------------------------------------------------------------------------------


def sampler_and_flow() -> tuple[HMC, Flow]:
    flow = perturbed(affine_flow((4, 6), layers=2, hidden=(4,)).double())
    return flowed_hmc(flow, INTERACTING, 0.15, 4, jitter=0.1), flow


def test_chains_live_in_the_latent_variables_and_are_read_in_the_field() -> None:
    sampler, flow = sampler_and_flow()
    x = 0.4 * normal(16, 4, 6, seed=12)
    state = sampler.init(x)
    torch.testing.assert_close(sampler.field(state), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.x, flow.inverse(x)[0].detach(), rtol=0, atol=1e-12)
    for _ in range(3):
        state, info = sampler.step(state, seeded(13))
    assert 0 < int(info.accepted.sum()) < 16
    assert state.field is not None
    torch.testing.assert_close(sampler.field(state), flow.forward(state.x)[0].detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(state.action, sampler.action(state.x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.force, sampler.action.force(state.x), rtol=0, atol=1e-11)


@dataclasses.dataclass(frozen=True, eq=False)
class Latent(Action):
    """The action of the latent variables, which knows no other field."""

    pullback: Pullback
    lattice: tuple[int, ...] = INTERACTING.lattice
    kind: ClassVar[FieldKind] = SCALAR

    def __call__(self, x: Tensor) -> Tensor:
        return self.pullback(x)


def test_it_is_hmc_on_the_pullback() -> None:
    """The same numbers as HMC with the action of the latent variables alone, step for step."""
    sampler, _ = sampler_and_flow()
    plain = HMC(Latent(sampler.action), sampler.step_size, sampler.n_steps, jitter=sampler.jitter)
    z = normal(8, 4, 6, seed=14)
    ours = thermalise(sampler, sampler.init_latent(z), 10, seeded(15))
    theirs = thermalise(plain, plain.init(z), 10, seeded(15))
    torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=1e-9)
    assert theirs.field is None, "no second field is held where there is but one"
    assert set(plain.state_dict(theirs)) == {"x", "action", "force"}


def test_hmc_on_a_pullback_records_the_physical_field() -> None:
    sampler, flow = sampler_and_flow()
    plain = HMC(Pullback(INTERACTING, flow), sampler.step_size, sampler.n_steps, jitter=sampler.jitter)
    x = 0.4 * normal(8, 4, 6, seed=14)
    series = [run(one, x, 5, lambda x: {"x": x}, seeded(15)).series["x"] for one in (sampler, plain)]
    assert torch.equal(*series)
    assert (sampler.title, plain.title) == ("HMC through the model", "HMC")
    state = thermalise(plain, plain.init(x), 5, seeded(15))
    torch.testing.assert_close(series[1][-1], flow.forward(state.x)[0].detach(), rtol=0, atol=1e-12)
    assert [o.name for o in plain.action.observables] == [o.name for o in INTERACTING.observables]


class Counted(Scale):
    """Counts the passes of batches."""

    passes = 0

    def forward(self, x: Tensor):
        Counted.passes += 1
        return super().forward(x)


def test_a_trajectory_passes_the_flow_once_for_each_force_and_reading_it_costs_nothing() -> None:
    sampler = flowed_hmc(Counted(0.1).double(), INTERACTING, 0.1, 7)
    state = sampler.init(0.1 * normal(2, 4, 6, seed=16))
    Counted.passes = 0
    chain = run(sampler, state, 3, moments, seeded(17))
    assert Counted.passes == 3 * 7
    assert chain.series["phi_squared"].shape == (3, 2)


def test_an_interrupted_history_goes_on_bit_for_bit(tmp_path: Path) -> None:
    sampler, _ = sampler_and_flow()
    start = 0.3 * normal(3, 4, 6, seed=18)
    whole = run(sampler, start, 8, moments, seeded(19))
    generator = seeded(19)
    blocks = run_blocks(sampler, start, 4, moments, generator, block=4)
    state, first = next(blocks)
    save_tree(tmp_path / "chain", {"state": sampler.state_dict(state), "generator": generator.get_state()})
    tree = load_tree(tmp_path / "chain")
    assert tree["state"]["x"].shape == (3, 4, 6)
    resumed = torch.Generator()
    resumed.set_state(tree["generator"])
    second = run(sampler, sampler.state_from_dict(tree["state"]), 4, moments, resumed)
    for name, values in whole.series.items():
        assert torch.equal(values, torch.cat([first.series[name], second.series[name]])), name


def test_tuning_keeps_the_flow() -> None:
    sampler, _ = sampler_and_flow()
    state = sampler.init(0.3 * normal(32, 4, 6, seed=20))
    tuned, state = tune_step_size(sampler, state, seeded(21), target=0.8, rounds=10, trajectories=4)
    assert tuned.action is sampler.action
    assert tuned.trajectory_length == pytest.approx(sampler.trajectory_length)
    chain = run(tuned, state, 20, moments, seeded(22))
    assert 0.7 < float(torch.exp(-chain.series["delta_h"]).clamp(max=1).mean()) < 0.95


def test_one_chain_in_single_precision() -> None:
    flow = perturbed(minimal_flow((4, 6)))
    sampler = flowed_hmc(flow, INTERACTING, 0.1, 3)
    chain = run(sampler, torch.zeros(1, 4, 6), 5, lambda x: {"x": x}, seeded(23))
    assert chain.series["x"].dtype == torch.float32
    assert chain.series["x"].shape == (5, 1, 4, 6)


def test_starts_that_cannot_move_are_refused() -> None:
    sampler, _ = sampler_and_flow()
    for init in (sampler.init, sampler.init_latent):
        with pytest.raises(ValueError, match=r"expected a scalar field on the lattice \(4, 6\), a tensor"):
            init(torch.zeros(2, 6, 4))
        with pytest.raises(ValueError, match="finite action"):
            init(torch.full((2, 4, 6), torch.nan, dtype=torch.float64))
