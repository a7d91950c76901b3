"""HMC on two time scales: the nested integrator against a slow one, energy, and averages."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from latflow.fields import LINKS, SCALAR, FieldKind
from latflow.observables import plaquette
from latflow.samplers import (
    HMC,
    LEAPFROG,
    OMELYAN,
    Cycle,
    FourierMass,
    Integrator,
    SectorHop,
    integrate,
    integrate_nested,
    run,
    thermalise,
)
from latflow.theories import XY, Action, Phi4, Schwinger, U1Gauge, WilsonFermions

BETA, KAPPA = 2.0, 0.276
LATTICE = (4, 6)
THEORY = Schwinger(LATTICE, BETA, KAPPA)
SCHEMES = pytest.mark.parametrize("scheme", [LEAPFROG, OMELYAN], ids=lambda scheme: scheme.name)

Push = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Costly(Action):
    """A well at each site, λ Σ φ⁴, which says that it is costly and counts how often it is asked."""

    lam: float = 1.0
    lattice: tuple[int, ...] = LATTICE
    kind: ClassVar[FieldKind] = SCALAR
    costly: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, x: Tensor) -> Tensor:
        return self.lam * (x.double() ** 4).flatten(1).sum(1)


CHEAP = Phi4(LATTICE, m2=1.0, lam=0.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def smooth(chains: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Links about those of perfect order, where det D is positive."""
    return 0.3 * normal((chains, 2, *LATTICE), seed, dtype)


def over_chains(series: Tensor) -> tuple[float, float]:
    """Mean and standard error of (step, chain), the spread taken over the means of independent chains."""
    means = series.double().mean(0)
    return float(means.mean()), float(means.std()) / math.sqrt(len(means))


# --- the parts of an action ------------------------------------------------------------------------


def test_an_action_tells_its_parts_by_cost() -> None:
    parts = THEORY.by_cost()
    assert parts == (THEORY.first, THEORY.second)
    turned = (WilsonFermions(LATTICE, KAPPA) + U1Gauge(LATTICE, BETA)).by_cost()
    assert turned == parts
    heavier = (THEORY + WilsonFermions(LATTICE, 0.1)).by_cost()
    assert heavier == (THEORY.first, THEORY.second + WilsonFermions(LATTICE, 0.1))
    assert (0.5 * THEORY).by_cost() == (0.5 * THEORY.first, 0.5 * THEORY.second)
    x = smooth(2, 1)
    for action in (THEORY, 0.5 * THEORY, THEORY + WilsonFermions(LATTICE, 0.1)):
        parts = action.by_cost()
        torch.testing.assert_close(parts.cheap(x) + parts.costly(x), action(x), rtol=1e-13, atol=0)
    assert THEORY.costly
    assert not U1Gauge(LATTICE, BETA).costly


@pytest.mark.parametrize(
    "action",
    [
        U1Gauge(LATTICE, BETA),
        WilsonFermions(LATTICE, KAPPA),
        U1Gauge(LATTICE, BETA) + U1Gauge(LATTICE, 1.0),
        WilsonFermions(LATTICE, KAPPA) + WilsonFermions(LATTICE, 0.1),
        2.0 * U1Gauge(LATTICE, BETA),
        XY(LATTICE, 1.0),
    ],
)
def test_an_action_of_one_cost_has_no_time_scales(action: Action) -> None:
    assert action.by_cost() is None
    with pytest.raises(ValueError, match=r"a cheap and a costly part .* whose force is of one cost"):
        HMC(action, 0.1, 5, inner_steps=2)


def test_impossible_inner_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="inner_steps of at least 1, got 0"):
        HMC(THEORY, 0.1, 5, inner_steps=0)
    with pytest.raises(ValueError, match="compiled = true"):
        HMC(THEORY, 0.1, 5, inner_steps=2, compiled=True)


# --- the integrator --------------------------------------------------------------------------------


def slowly(
    scheme: Integrator, cheap: Push, costly: Push, x: Tensor, p: Tensor, step: float, n: int, inner: int
) -> tuple[Tensor, Tensor]:
    """The nested scheme read off its definition: nothing merged, every force anew."""
    for _ in range(n):
        for i, kick in enumerate(scheme.kicks):
            p = p + kick * step * costly(x)
            if i == len(scheme.drifts):
                break
            h = scheme.drifts[i] * step / inner
            for _ in range(inner):
                for j, inner_kick in enumerate(scheme.kicks):
                    p = p + inner_kick * h * cheap(x)
                    x = x + (scheme.drifts[j] * h * p if j < len(scheme.drifts) else 0.0)
    return x, p


def slope(action: Action) -> Push:
    """The force by automatic differentiation of the value, whatever the action offers."""

    def force(x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return -torch.autograd.grad(action(leaf).sum(), leaf)[0]

    return force


def test_the_slow_integrator_alone_is_the_library_one_without_a_second_scale() -> None:
    """What the next test compares with is itself a check: no cheap force, and the scheme is the plain one."""
    x, p = smooth(3, 1), normal((3, 2, *LATTICE), 2)
    force, none = slope(THEORY), torch.zeros_like
    end = slowly(OMELYAN, none, force, x, p, 0.2, 3, 1)
    expected = integrate(OMELYAN, THEORY.force, x, p, THEORY.force(x), 0.2, 3)
    torch.testing.assert_close(end, expected[:2], rtol=0, atol=1e-11)


@SCHEMES
@pytest.mark.parametrize("inner", [1, 3])
def test_nested_trajectories_are_those_of_a_slow_integrator(scheme: Integrator, inner: int) -> None:
    cheap, costly = THEORY.first, THEORY.second
    x, p = smooth(2, 3), normal((2, 2, *LATTICE), 4)
    forces = cheap.force(x), costly.force(x)
    end = integrate_nested(scheme, cheap.force, costly.force, x, p, forces, 0.2, 3, inner)
    expected = slowly(scheme, slope(cheap), slope(costly), x, p, 0.2, 3, inner)
    torch.testing.assert_close(end[:2], expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(end[2], (cheap.force(end[0]), costly.force(end[0])), rtol=0, atol=0)


@SCHEMES
def test_one_force_alone_is_followed_as_without_a_second_scale(scheme: Integrator) -> None:
    """Without a cheap force the scheme is the outer one, without a costly one the inner one."""
    x, p, none = smooth(3, 5), normal((3, 2, *LATTICE), 6), torch.zeros_like
    force = U1Gauge(LATTICE, BETA).force
    n, inner, drifts = 3, 4, len(scheme.drifts)
    outer = integrate_nested(scheme, none, force, x, p, (none(x), force(x)), 0.2, n, inner)
    expected = integrate(scheme, force, x, p, force(x), 0.2, n)
    torch.testing.assert_close(outer[:2], expected[:2], rtol=0, atol=1e-12)
    within = integrate_nested(scheme, force, none, x, p, (force(x), none(x)), 0.2, n, inner)
    expected = integrate(scheme, force, x, p, force(x), 0.2 / (drifts * inner), n * drifts * inner)
    torch.testing.assert_close(within[:2], expected[:2], rtol=0, atol=1e-12)


def test_one_inner_step_of_leapfrog_is_leapfrog() -> None:
    cheap, costly = THEORY.first.force, THEORY.second.force
    x, p = smooth(3, 7), normal((3, 2, *LATTICE), 8)
    nested = integrate_nested(LEAPFROG, cheap, costly, x, p, (cheap(x), costly(x)), 0.2, 4, 1)
    plain = integrate(LEAPFROG, THEORY.force, x, p, THEORY.force(x), 0.2, 4)
    torch.testing.assert_close(nested[:2], plain[:2], rtol=0, atol=1e-12)


@SCHEMES
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
def test_nested_trajectories_are_reversible(scheme: Integrator, dtype: torch.dtype, tolerance: float) -> None:
    cheap, costly = THEORY.first.force, THEORY.second.force
    x, p = smooth(1, 9, dtype), normal((1, 2, *LATTICE), 10, dtype)
    there = integrate_nested(scheme, cheap, costly, x, p, (cheap(x), costly(x)), 0.2, 5, 3)
    back = integrate_nested(scheme, cheap, costly, there[0], -there[1], there[2], 0.2, 5, 3)
    assert float((there[0] - x).abs().mean()) > 0.1
    assert back[0].dtype == dtype
    torch.testing.assert_close(back[0], x, rtol=0, atol=tolerance)
    torch.testing.assert_close(back[1], -p, rtol=0, atol=tolerance)


def rms_of_delta_h(scheme: Integrator, n_steps: int, inner: int) -> float:
    """Over trajectories of length 1 from 100 starts."""
    action = CHEAP + Costly()
    cheap, costly = CHEAP.force, Costly().force
    x, p = 0.5 * normal((100, *LATTICE), 11), normal((100, *LATTICE), 12)
    start = (x, p, (cheap(x), costly(x)))
    end = integrate_nested(scheme, cheap, costly, *start, 1 / n_steps, n_steps, inner)
    energies = [action(at) + 0.5 * (momentum**2).flatten(1).sum(1) for at, momentum in (end[:2], (x, p))]
    return float((energies[0] - energies[1]).square().mean().sqrt())


@SCHEMES
@pytest.mark.parametrize("inner", [1, 3])
def test_delta_h_is_quadratic_in_the_step_size(scheme: Integrator, inner: int) -> None:
    found = [rms_of_delta_h(scheme, n, inner) for n in (20, 80)]
    assert math.log(found[0] / found[1]) / math.log(4) == pytest.approx(2, abs=0.1)


@SCHEMES
def test_no_force_is_computed_twice(scheme: Integrator) -> None:
    asked: dict[str, list[Tensor]] = {"cheap": [], "costly": []}

    def counted(name: str) -> Push:
        def force(x: Tensor) -> Tensor:
            assert not any(torch.equal(x, earlier) for earlier in asked[name]), f"{name} force asked again"
            asked[name].append(x)
            return -x

        return force

    x, p = normal((2, 3), 13), normal((2, 3), 14)
    integrate_nested(scheme, counted("cheap"), counted("costly"), x, p, (-x, -x), 0.1, 5, 3)
    drifts = len(scheme.drifts)
    assert {name: len(points) for name, points in asked.items()} == {
        "cheap": 5 * drifts * 3 * drifts,
        "costly": 5 * drifts,
    }


# --- the sampler -----------------------------------------------------------------------------------


def test_one_inner_step_of_leapfrog_makes_the_chain_of_plain_hmc() -> None:
    histories = []
    for inner_steps in (None, 1):
        sampler = HMC(THEORY, 0.25, 4, jitter=0.2, inner_steps=inner_steps)
        chain = run(sampler, smooth(3, 15), 6, lambda x: {"x": x}, seeded(16))
        histories.append(chain.series)
    assert float(histories[0]["accepted"].double().mean()) > 0
    torch.testing.assert_close(histories[1]["x"], histories[0]["x"], rtol=0, atol=1e-9)
    torch.testing.assert_close(histories[1]["delta_h"], histories[0]["delta_h"], rtol=0, atol=1e-8)


def test_a_trajectory_asks_each_part_as_often_as_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"force": 0, "evaluate": 0}
    for name in asked:
        original = getattr(WilsonFermions, name)

        def counted(
            self: WilsonFermions, x: Tensor, name: str = name, original: Callable = original
        ) -> object:
            asked[name] += 1
            return original(self, x)

        monkeypatch.setattr(WilsonFermions, name, counted)
    sampler = HMC(THEORY, 0.2, 4, "omelyan", inner_steps=3)
    state = sampler.init(smooth(2, 17))
    assert asked == {"force": 0, "evaluate": 1}
    for _ in range(3):
        state, _ = sampler.step(state, seeded(18))
    assert asked["force"] + asked["evaluate"] == 1 + 3 * sampler.force_evaluations == 1 + 3 * 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("integrator", ["leapfrog", "omelyan"])
def test_the_mean_of_exp_minus_delta_h_is_one(integrator: str, dtype: torch.dtype) -> None:
    action = CHEAP + Costly()
    sampler = HMC.of_length(action, 1.0, 4 if integrator == "leapfrog" else 2, integrator, inner_steps=2)
    start = 0.3 * normal((400, *LATTICE), 19, dtype)
    series = run(sampler, start, 60, lambda _: {}, seeded(20), thermalisation=30).series
    # only where trajectories do violate the energy is the identity worth a test
    assert 0.05 < float(series["delta_h"].std()) < 1
    value, error = over_chains(torch.exp(-series["delta_h"]))
    assert abs(value - 1) < 5 * error
    acceptance, error = over_chains(series["accepted"].double() - torch.exp(-series["delta_h"]).clamp(max=1))
    assert abs(acceptance) < 5 * error


def test_two_time_scales_sample_the_schwinger_model() -> None:
    """⟨cos P⟩ by HMC on two scales and on one; 200 independent chains each, of the sector they begin in."""
    found = []
    for seed, options in ((21, {"inner_steps": 2}), (22, {})):
        sampler = HMC.of_length(THEORY, 1.0, 3, jitter=0.2, **options)
        chain = run(
            sampler, smooth(200, seed), 12, lambda x: {"plaquette": plaquette(x)}, seeded(seed + 2), 12
        )
        found.append(over_chains(chain.series["plaquette"]))
    (one, error_one), (other, error_other) = found
    assert abs(one - other) < 5 * math.hypot(error_one, error_other)
    assert error_one < 0.01


def test_a_field_with_a_mass_moves_on_two_scales_too() -> None:
    """A free field whose mass term is split off: V⟨M²⟩ = 1/(2 m²), with Fourier acceleration and jitter."""

    @dataclass(frozen=True)
    class Mass(Costly):
        def __call__(self, x: Tensor) -> Tensor:
            return self.lam * (x.double() ** 2).flatten(1).sum(1)

    action = Phi4(LATTICE, m2=0.25, lam=0.0) + Mass(lam=0.5)
    sampler = HMC(action, 0.4, 3, "leapfrog", 0.2, FourierMass(0.5), inner_steps=2)
    chain = run(
        sampler, normal((400, *LATTICE), 24), 60, lambda x: {"m2": 24 * x.mean((1, 2)) ** 2}, seeded(25), 30
    )
    value, error = over_chains(chain.series["m2"])
    assert abs(value - 1 / (2 * 0.75)) < 5 * error


@pytest.mark.parametrize("chains", [1, 3])
def test_chains_go_on_bit_for_bit_and_in_cycles(chains: int) -> None:
    hmc = HMC(THEORY, 0.25, 3, "omelyan", inner_steps=2)
    cycle = Cycle([hmc, SectorHop(THEORY)])
    for sampler in (hmc, cycle):
        generator, start = seeded(26), smooth(chains, 27, torch.float32)
        whole = run(sampler, start, 6, lambda x: {"x": x}, seeded(26))
        first = run(sampler, start, 3, lambda x: {"x": x}, generator)
        tree = sampler.state_dict(first.state)
        rest = run(sampler, sampler.state_from_dict(tree), 3, lambda x: {"x": x}, generator)
        assert torch.equal(rest.series["x"], whole.series["x"][3:])
        assert whole.series["x"].dtype == torch.float32
    state = thermalise(hmc, hmc.init(smooth(8, 28)), 4, seeded(29))
    torch.testing.assert_close(state.action, THEORY(state.x), rtol=0, atol=1e-11)
    torch.testing.assert_close(state.force, THEORY.first.force(state.x), rtol=0, atol=1e-12)
    torch.testing.assert_close(state.costly_force, THEORY.second.force(state.x), rtol=0, atol=1e-10)
    assert THEORY.kind == LINKS
    assert dataclasses.replace(hmc, inner_steps=None).init(state.x).costly_force is None
