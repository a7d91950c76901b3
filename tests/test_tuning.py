"""The cost of an independent configuration, and the trajectory length that makes it least."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from latflow import registry
from latflow.config import load_config
from latflow.densities.flows import minimal_flow
from latflow.errors import ConfigError
from latflow.fields import SCALAR, FieldKind
from latflow.observables import plaquette
from latflow.samplers import (
    HMC,
    Cycle,
    FourierMass,
    SectorHop,
    Tuning,
    named,
    run,
    thermalise,
    tune_cost,
    tune_inner_steps,
    tune_step_size,
    tuning,
)
from latflow.samplers.base import Place
from latflow.theories import Action, Ising, Phi4, Schwinger, U1Gauge

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


# --- samplers by name -----------------------------------------------------------------------------


def test_every_registered_sampler_is_found() -> None:
    expected = {"proposals", "hmc", "flowed_hmc", "hops", "wolff", "swendsen_wang", "heat_bath", "metropolis"}
    assert expected <= set(registry.names("samplers"))
    titles = {
        name: registry.load("samplers", name)(Ising((4, 4), 0.4)).title
        for name in ("wolff", "swendsen_wang", "heat_bath", "metropolis")
    }
    assert titles == {
        "wolff": "Wolff",
        "swendsen_wang": "Swendsen–Wang",
        "heat_bath": "heat bath",
        "metropolis": "local Metropolis",
    }
    assert registry.load("samplers", "hmc") is named.hmc
    flow = minimal_flow((4, 6))
    sampler = registry.load("samplers", "flowed_hmc")(flow, FREE, integrator="omelyan")
    assert (sampler.title, sampler.step_words) == (
        "HMC through the model",
        "one trajectory of HMC through the model",
    )
    assert registry.load("samplers", "proposals")(flow, FREE, batch=3).proposes
    assert registry.load("samplers", "hops")(U1Gauge((4, 4), 1.0)).title == "sector hops"
    with pytest.raises(ValueError, match="expected a flow for HMC through the model, got Phi4"):
        named.flowed_hmc(FREE, FREE)


def test_a_sampler_by_name_finds_its_step_size_and_is_made_again_from_what_it_found() -> None:
    sampler = named.hmc(FREE, trajectory_length=2.0, target_acceptance=0.7, fourier_mass=0.3)
    assert sampler.mass == FourierMass(0.3)
    state = sampler.init(torch.randn(100, 4, 6, generator=seeded(4), dtype=torch.float64))
    adapted, state = sampler.adapt(state, seeded(5), 20)
    found = adapted.found()
    assert found == {"step_size": adapted.step_size, "n_steps": adapted.n_steps}
    assert adapted.trajectory_length == pytest.approx(2.0)
    chain = run(adapted, state, 40, lambda _: {}, seeded(6))
    assert 0.64 < float(torch.exp(-chain.series["delta_h"]).clamp(max=1).mean()) < 0.85
    assert sampler.adapted(found) == adapted
    untuned = HMC(FREE, 0.1, 5)
    assert untuned.found() == {}
    assert untuned.adapt(state, seeded(7), 20) == (untuned, state)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer trajectories in a search."""
    monkeypatch.setattr(tuning, "tune_step_size", partial(tuning.tune_step_size, rounds=6, trajectories=4))
    monkeypatch.setattr(tuning, "_LEAST_TRAJECTORIES", 60)


@pytest.mark.usefixtures("quick")
def test_of_several_lengths_the_cheapest_for_the_slow_observable_is_taken() -> None:
    """|M| of the free field is slow: its mode has ω = 0.447, and a quarter period is 3.5."""
    sampler = named.hmc(FREE, trajectory_length=[0.4, 3.2], integrator="omelyan", jitter=0.0)
    state = sampler.init(torch.randn(200, 4, 6, generator=seeded(8), dtype=torch.float64))
    adapted, _ = sampler.adapt(state, seeded(9), 30)
    assert adapted.trajectory_length == pytest.approx(3.2)
    with pytest.raises(ValueError, match="expected at least 2 chains to compare trajectory lengths"):
        sampler.adapt(sampler.init(torch.zeros(1, 4, 6)), seeded(9), 30)


@dataclass(frozen=True)
class Plain(FieldKind):
    """Real numbers of which nothing is known to be slow."""

    name = "plain"
    manifold = SCALAR.manifold

    def start(self, lattice, n, _, dtype):
        return torch.zeros(n, *lattice, dtype=dtype)


@dataclass(frozen=True)
class Foreign(Action):
    """A theory that says the least that it may."""

    lattice: tuple[int, ...] = (4,)
    kind: ClassVar[FieldKind] = Plain()

    def __call__(self, x: Tensor) -> Tensor:
        return (x**2).flatten(1).sum(1)


def test_the_slow_observable_is_that_of_the_theory() -> None:
    x = torch.randn(3, 4, 6, generator=seeded(1))
    torch.testing.assert_close(
        tuning.slow_observables(FREE)["abs_magnetization"](x), x.mean((1, 2)).abs().double()
    )
    links = torch.randn(3, 2, 4, 4, generator=seeded(2), dtype=torch.float64)
    squared = tuning.slow_observables(U1Gauge((4, 4), 1.0))["charge_squared"](links)
    assert squared.shape == (3,)
    torch.testing.assert_close(squared.sqrt(), squared.sqrt().round())
    with pytest.raises(ValueError, match=r"slow observable .* Foreign has none: give one length"):
        named.hmc(Foreign(), trajectory_length=[1.0, 2.0])
    sampler = named.hmc(Foreign())
    adapted, _ = sampler.adapt(sampler.init(torch.zeros(8, 4)), seeded(3), 5)
    assert adapted.step_size > 0.1
    for options in ({"lengths": ()}, {"lengths": (0.0,)}, {"target_acceptance": 1.0}):
        with pytest.raises(ValueError, match="expected"):
            Tuning(**options)


def test_observables_are_named_for_lengths() -> None:
    assert list(tuning.slow_observables(SCHWINGER)) == ["charge_squared", "condensate"]
    named_ones = tuning.slow_observables(SCHWINGER, ("plaquette", "condensate", "P_charge_1"))
    assert list(named_ones) == ["plaquette", "condensate", "P_charge_1"]
    links = smooth_links(3)
    torch.testing.assert_close(named_ones["plaquette"](links), plaquette(links))
    assert named_ones["P_charge_1"](links).tolist() == [0, 0, 0]
    sampler = named.hmc(SCHWINGER, trajectory_length=[1.0, 2.0], observables="condensate")
    assert sampler.tuning == Tuning(lengths=(1.0, 2.0), observables=("condensate",))
    for wrong in ("log_z", "pion_mass_1", "magnetization"):
        with pytest.raises(ValueError, match=f"observables among .*condensate.*, got '{wrong}'"):
            named.hmc(SCHWINGER, observables=wrong)


@pytest.mark.usefixtures("quick")
def test_a_length_is_chosen_by_the_chain_of_all_kernels() -> None:
    """Q² stands still for HMC alone at weak coupling, and would tell nothing of its trajectories."""
    action = U1Gauge((4, 6), beta=8.0)
    hmc = named.hmc(action, trajectory_length=[0.5, 1.5], jitter=0.2)
    cycle = Cycle([SectorHop(action), hmc], steps=(3, 1))
    start = cycle.init(0.1 * torch.randn(30, 2, 4, 6, generator=seeded(27), dtype=torch.float64))
    slow = tuning.slow_observables(action)
    alone = hmc.init(start.x)
    _, _, costs = tune_cost(hmc, alone, seeded(28), slow, (0.5, 1.5), trajectories=40)
    assert [cost.tau for cost in costs] == [math.inf, math.inf]
    place = Place(lambda kernel: Cycle([SectorHop(action), kernel], steps=(3, 1)), "hmc")
    best, state, costs = tune_cost(hmc, alone, seeded(28), slow, (0.5, 1.5), trajectories=40, place=place)
    assert all(cost.tau < 10 and 0.5 < cost.acceptance < 1 for cost in costs)
    torch.testing.assert_close(state.action, action(state.x), rtol=0, atol=1e-11)
    adapted, _ = cycle.adapt(start, seeded(29), 10)
    assert adapted.kernels[1].trajectory_length in (pytest.approx(0.5), pytest.approx(1.5))
    assert adapted.kernels == cycle.adapted(adapted.found()).kernels
    assert adapted.kernels[1].tuning.place is None
    assert best.tuning == hmc.tuning


def test_tuning_compiles_nothing_and_keeps_the_wish_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr("latflow.compiled.Programs.run", refuse)
    sampler = replace(named.hmc(FREE), compiled=True)
    adapted, _ = sampler.adapt(sampler.init(torch.zeros(8, 4, 6)), seeded(3), 5)
    assert adapted.compiled is True


def test_a_length_at_which_nothing_moves_is_not_the_cheapest():
    """nan is no cost: it would win over whatever is tried after it."""
    assert tuning._tau_of_means(torch.full((50, 4), 0.5)) == math.inf
    assert tuning._tau_of_means(torch.full((50, 4), math.nan)) == math.inf
    moving = torch.randn(4000, 64, generator=seeded(5), dtype=torch.float64)
    # the variance of 64 means has a relative spread of √(2/63) = 0.18
    assert tuning._tau_of_means(moving) == pytest.approx(0.5, rel=5 * 0.18)


# --- two time scales ------------------------------------------------------------------------------

SCHWINGER = Schwinger((4, 4), beta=2.0, kappa=0.25)


@dataclass(frozen=True)
class Weak(Action):
    """A weak force that says it is costly."""

    lattice: tuple[int, ...] = (4, 6)
    kind: ClassVar[FieldKind] = SCALAR
    costly: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, x: Tensor) -> Tensor:
        return 0.1 * (x**2).flatten(1).sum(1)


def smooth_links(chains: int) -> Tensor:
    return 0.3 * torch.randn(chains, 2, 4, 4, generator=seeded(20), dtype=torch.float64)


@pytest.mark.slow
def test_inner_steps_are_those_that_save_costly_forces() -> None:
    """A free field beside a weak, costly force: four inner steps save most, fifty little more."""
    sampler = HMC.of_length(Phi4((4, 6), m2=1.0, lam=0.0) + Weak(), 2.0, 10, inner_steps=1)
    state = sampler.init(torch.randn(100, 4, 6, generator=seeded(20), dtype=torch.float64))
    plain, state = tune_step_size(sampler, state, seeded(22), 0.9)
    best, state = tune_inner_steps(sampler, state, seeded(23), (1, 4, 50), 0.9)
    assert best.inner_steps == 4
    assert best.force_evaluations <= 0.5 * plain.force_evaluations
    assert best.trajectory_length == pytest.approx(2.0)
    series = run(best, state, 20, lambda _: {}, seeded(24)).series
    # a whole number of steps adds to the acceptance; a mean over 2000 trajectories has an error below 0.01
    assert float(torch.exp(-series["delta_h"]).clamp(max=1).mean()) > 0.85
    with pytest.raises(ValueError, match="inner steps to choose from, got none"):
        tune_inner_steps(sampler, state, seeded(25), ())


def test_inner_steps_by_name() -> None:
    assert named.hmc(SCHWINGER).inner_steps == 4
    assert named.hmc(SCHWINGER, inner_steps=2).inner_steps == 2
    assert named.hmc(SCHWINGER, inner_steps="off").inner_steps is None
    assert named.hmc(SCHWINGER, compiled=True).inner_steps is None
    assert named.hmc(U1Gauge((4, 4), 2.0)).inner_steps is None
    several = named.hmc(SCHWINGER, inner_steps=[1, 8])
    assert (several.inner_steps, several.tuning) == (1, Tuning(inner_steps=(1, 8)))
    with pytest.raises(ValueError, match=r"U\(1\) gauge theory, whose force is of one cost"):
        named.hmc(U1Gauge((4, 4), 2.0), inner_steps=2)
    with pytest.raises(ValueError, match=r"inner steps of at least 1, got \(0, 2\)"):
        Tuning(inner_steps=(0, 2))


@pytest.mark.usefixtures("quick")
def test_a_chain_on_two_time_scales_is_made_again_from_what_it_found() -> None:
    sampler = named.hmc(SCHWINGER, inner_steps=[1, 4], trajectory_length=2.0)
    adapted, state = sampler.adapt(sampler.init(smooth_links(6)), seeded(26), 5)
    found = adapted.found()
    assert set(found) == {"step_size", "n_steps", "inner_steps"}
    assert sampler.adapted(found) == adapted
    assert state.costly_force is not None
    # what an earlier version found, of a chain on one time scale, goes on so
    assert sampler.adapted({"step_size": 0.1, "n_steps": 3}).inner_steps is None


@pytest.mark.parametrize(("written", "expected"), [("3", 3), ("[2, 3]", 2), ('"off"', None)])
def test_inner_steps_in_a_configuration(written: str, expected: int | None) -> None:
    config = load_config("schwinger-8x8", [f"beside.hmc.inner_steps={written}"])
    assert config.beside is not None
    assert config.beside.build(SCHWINGER)["hmc"].inner_steps == expected


def test_what_is_not_said_of_inner_steps_is_no_setting() -> None:
    """So the chain of a run that an earlier version made has not been made with other settings."""
    config = load_config("schwinger-8x8")
    assert config.beside is not None
    assert not {"inner_steps", "observables"} & set(config.beside.table()["hmc"])
    assert config.beside.build(SCHWINGER)["hmc"].inner_steps == 4


def test_wrong_inner_steps_in_a_configuration_are_told() -> None:
    with pytest.raises(ConfigError, match=r"beside\.hmc\.inner_steps"):
        load_config("schwinger-8x8", ["beside.hmc.inner_steps=0"])
    with pytest.raises(ConfigError, match=r"beside\.hmc: .* whose force is of one cost"):
        load_config("u1", ["beside.hmc.inner_steps=2"])
