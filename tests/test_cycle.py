"""Kernels in turn on one chain, and hops between topological sectors."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cases import perturbed, thinned
from latflow import exact, observables
from latflow.analysis import measure
from latflow.densities.flows import FourierLayer, affine_flow, gauge_flow
from latflow.lattice import wrapped
from latflow.observables.fermions import determinant_sign
from latflow.samplers import (
    HMC,
    Cycle,
    HolonomyShift,
    IndependenceMetropolis,
    Sampler,
    SectorHop,
    constant_flux,
    flowed_hmc,
    named,
    run,
    thermalise,
)
from latflow.storage import load_tree, save_tree
from latflow.theories import Phi4, Schwinger, U1Gauge, plaquette_angles
from latflow.types import Draws

LATTICE = (4, 6)
ACTION = Phi4(LATTICE, m2=1.25, lam=0.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def moments(x: Tensor) -> dict[str, Tensor]:
    sites = x.flatten(1).double()
    return {"phi_squared": (sites**2).mean(1), "V_m_squared": sites.shape[1] * sites.mean(1) ** 2}


def links(x: Tensor) -> dict[str, Tensor]:
    charge = observables.topological_charge(x)
    return {"plaquette": observables.plaquette(x), "charge": charge, "charge_squared": charge**2}


def deviation(series: Tensor, expected: float) -> float:
    """In sigma, of the mean of (step, chain); the spread is that of the means of independent chains."""
    means = series.double().mean(0)
    return abs(float(means.mean()) - expected) / (float(means.std()) / math.sqrt(len(means)))


def scalar_cycle(dtype: torch.dtype = torch.float64, **options) -> Cycle:
    """Proposals of a flow near the free field, HMC, and HMC through another flow."""
    proposing = affine_flow(LATTICE, layers=0, fourier=True)
    for layer in proposing.modules():
        if isinstance(layer, FourierLayer):
            layer.exponent.data.fill_(1.0)
            layer.log_scale.data.fill_(-0.3)
    latent = perturbed(affine_flow(LATTICE, layers=2, hidden=(4,), z2=True), 0.1)
    kernels: list[Sampler] = [
        IndependenceMetropolis(proposing.to(dtype), ACTION),
        HMC(ACTION, 0.35, 2),
        flowed_hmc(latent.to(dtype), ACTION, 0.3, 2),
    ]
    return Cycle(kernels, **options)


# --- the cycle ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", thinned([torch.float32, torch.float64], 2), ids=["float32", "float64"])
@pytest.mark.parametrize("steps", [1, (2, 1, 3)], ids=str)
def test_a_cycle_is_exact(steps: int | tuple[int, ...], dtype: torch.dtype) -> None:
    cycle = scalar_cycle(dtype, steps=steps)
    chain = run(cycle, 0.5 * normal(200, *LATTICE, seed=1, dtype=dtype), 50, moments, seeded(2), 10)
    assert chain.state.x.dtype == dtype
    for name in cycle.names:
        assert 0.1 < float(chain.series[f"accepted_{name}"].mean()) < 0.98
    assert deviation(chain.series["phi_squared"], exact.free_field_phi_squared(LATTICE, 1.25)) < 5
    assert deviation(chain.series["V_m_squared"], exact.free_field_zero_mode(1.25)) < 5


def test_each_kernel_reports_under_its_name() -> None:
    chain = run(scalar_cycle(steps=(3, 1, 2)), normal(7, *LATTICE, seed=1), 5, moments, seeded(2))
    expected = {
        "phi_squared",
        "V_m_squared",
        "accepted",
        "accepted_independence_metropolis",
        "log_weight_independence_metropolis",
        "accepted_hmc",
        "delta_h_hmc",
        "accepted_flowed_hmc",
        "delta_h_flowed_hmc",
    }
    assert set(chain.series) == expected
    assert chain.series["accepted"].dtype == torch.bool
    assert all(values.shape == (5, 7) for values in chain.series.values())
    thirds = 3 * chain.series["accepted_independence_metropolis"]
    torch.testing.assert_close(thirds, thirds.round())
    kernels = [chain.series[f"accepted_{name}"] for name in scalar_cycle().names]
    assert torch.equal(chain.series["accepted"], torch.stack(kernels).sum(0) > 0)


def test_a_cycle_of_one_kernel_is_that_kernel() -> None:
    hmc = HMC(ACTION, 0.35, 2)
    start = normal(6, *LATTICE, seed=3)
    alone = run(hmc, start, 12, moments, seeded(4))
    cycled = run(Cycle([hmc], steps=3), start, 4, moments, seeded(4))
    assert torch.equal(cycled.series["phi_squared"], alone.series["phi_squared"][2::3])
    torch.testing.assert_close(
        cycled.series["accepted_hmc"], alone.series["accepted"].double().unflatten(0, (4, 3)).mean(1)
    )


def test_what_a_kernel_knows_belongs_to_the_field_it_is_handed() -> None:
    """At the start of its turn each kernel stands at the field of the chain, with its action and weight."""
    cycle = scalar_cycle()
    state = thermalise(cycle, cycle.init(normal(32, *LATTICE, seed=5)), 5, seeded(6))
    flow_state, hmc_state, _ = state.kernels
    assert 0 < int(state.stale[:, 0].sum()) < 32, "both kinds of chains are wanted here"
    assert not bool(state.stale[:, 2].any()), "the last kernel has just moved the chains"
    for i, (kernel, inner) in enumerate(zip(cycle.kernels, state.kernels, strict=True)):
        same = ~state.stale[:, i]
        torch.testing.assert_close(kernel.field(inner)[same], state.x[same], rtol=0, atol=1e-12)
    fresh = ~state.stale[:, 0]
    expected = cycle.kernels[0].init(state.x).log_weight
    torch.testing.assert_close(flow_state.log_weight[fresh], expected[fresh])
    fresh = ~state.stale[:, 1]
    torch.testing.assert_close(hmc_state.action[fresh], ACTION(state.x)[fresh])


class Counting(HMC):
    """Counts the chains that it has to start anew."""

    started = 0

    def init(self, x: Tensor):
        Counting.started += len(x)
        return super().init(x)


def test_kernels_start_anew_only_where_the_others_have_moved_the_chain() -> None:
    never_accepts = HMC(ACTION, 3.0, 20)
    cycle = Cycle([Counting(ACTION, 0.35, 2), never_accepts])
    state = cycle.init(normal(8, *LATTICE, seed=7))
    Counting.started = 0
    thermalise(cycle, state, 4, seeded(8))
    assert Counting.started == 0
    partner = HMC(ACTION, 0.35, 2)
    cycle = Cycle([Counting(ACTION, 0.35, 2), partner])
    state = cycle.init(normal(8, *LATTICE, seed=7))
    Counting.started = 0
    chain = run(cycle, state, 20, moments, seeded(8))
    moved = int(chain.series["accepted_hmc"][:-1].sum())
    assert 0 < Counting.started == moved < 19 * 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_an_interrupted_cycle_goes_on_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    cycle = scalar_cycle(dtype, steps=(1, 2, 1))
    start = normal(5, *LATTICE, seed=9, dtype=dtype)
    whole = run(cycle, start, 8, moments, seeded(10))
    generator = seeded(10)
    first = run(cycle, start, 4, moments, generator)
    tree = {"state": cycle.state_dict(first.state), "generator": generator.get_state()}
    save_tree(tmp_path / "chain", tree)
    tree = load_tree(tmp_path / "chain")
    assert all(isinstance(values, Tensor) for values in tree["state"].values())
    resumed = torch.Generator()
    resumed.set_state(tree["generator"])
    second = run(cycle, cycle.state_from_dict(tree["state"]), 4, moments, resumed)
    for name, values in whole.series.items():
        assert torch.equal(values, torch.cat([first.series[name], second.series[name]])), name


def test_cycles_nest() -> None:
    inner = Cycle([HMC(ACTION, 0.35, 2), HMC(ACTION, 0.2, 3)], names=("long", "short"))
    outer = Cycle([inner, HMC(ACTION, 0.3, 2)])
    state = thermalise(outer, outer.init(normal(1, *LATTICE, seed=11)), 3, seeded(12))
    again = outer.state_from_dict(outer.state_dict(state))
    chain = run(outer, again, 2, moments, seeded(13))
    assert {"accepted_cycle", "accepted_long_cycle", "accepted_hmc"} <= set(chain.series)


def test_impossible_cycles_are_refused() -> None:
    hmc = HMC(ACTION, 0.35, 2)
    for options in (
        {"kernels": []},
        {"kernels": [hmc], "steps": 0},
        {"kernels": [hmc, hmc], "steps": (1,)},
        {"kernels": [hmc, hmc], "names": ("a", "a")},
        {"kernels": [hmc, hmc], "names": ("a",)},
    ):
        with pytest.raises(ValueError, match="expected"):
            Cycle(**options)
    assert Cycle([hmc, hmc, hmc]).names == ("hmc", "hmc_2", "hmc_3")


def test_a_cycle_says_what_its_kernels_are() -> None:
    cycle = scalar_cycle()
    assert cycle.names == ("independence_metropolis", "hmc", "flowed_hmc")
    assert cycle.title == "model proposals + HMC + HMC through the model"
    hmc, through = "one trajectory of HMC", "one trajectory of HMC through the model"
    assert cycle.step_words == f"a cycle of one proposal of the model, {hmc} and {through}"
    assert cycle.proposes
    links_action = U1Gauge((4, 4), 1.0)
    hop = SectorHop(links_action)
    assert not any((hop.ergodic, Cycle([hop]).ergodic, hop.proposes))
    assert Cycle([HMC(links_action, 0.3, 3), hop]).ergodic


@dataclass(frozen=True)
class Twice(IndependenceMetropolis):
    """A sampler of one's own that proposes: each of its steps makes two batches of draws."""

    title = "two proposals"

    def step_with_draws(self, state, generator):
        state, first, one = super().step_with_draws(state, generator)
        state, second, other = super().step_with_draws(state, generator)
        info = replace(second, accepted=first.accepted | second.accepted)
        return state, info, Draws(torch.cat([one.x, other.x]), torch.cat([one.log_weight, other.log_weight]))

    def step(self, state, generator):
        return self.step_with_draws(state, generator)[:2]

    advance = Sampler.advance


def test_draws_of_any_kernel_come_with_the_history() -> None:
    proposing = affine_flow(LATTICE, layers=0, fourier=True).double()
    single, double = IndependenceMetropolis(proposing, ACTION), Twice(proposing, ACTION)
    start = normal(7, *LATTICE, seed=31)
    alone = run(double, start, 5, moments, seeded(32))
    pairs = run(Cycle([single], steps=2), start, 5, moments, seeded(32))
    cycled = run(Cycle([Cycle([double])]), start, 5, moments, seeded(32))
    for chain in (alone, pairs, cycled):
        assert chain.proposals is not None
        assert {name: tuple(v.shape) for name, v in chain.proposals.items()} == {
            "phi_squared": (10, 7),
            "V_m_squared": (10, 7),
            "log_weight": (10, 7),
        }
        for name, values in alone.proposals.items():
            assert torch.equal(chain.proposals[name], values), name
        assert torch.equal(chain.series["phi_squared"], alone.series["phi_squared"])


@pytest.mark.slow
def test_kernels_that_adapt_do_so_in_turn() -> None:
    proposing = affine_flow(LATTICE, layers=0, fourier=True).double()
    latent = perturbed(affine_flow(LATTICE, layers=2, hidden=(4,), z2=True).double(), 0.1)
    hybrids = [named.hmc(ACTION, trajectory_length=0.8), named.flowed_hmc(latent, ACTION)]
    cycle = Cycle(
        [IndependenceMetropolis(proposing, ACTION), *hybrids], names=("proposals", "hmc", "flowed_hmc")
    )
    state = cycle.init(0.5 * normal(32, *LATTICE, seed=33))
    adapted, state = cycle.adapt(state, seeded(34), thermalisation=5)
    found = adapted.found()
    assert set(found) == {
        f"{name}.{key}" for name in ("hmc", "flowed_hmc") for key in ("step_size", "n_steps")
    }
    assert found["hmc.step_size"] * found["hmc.n_steps"] == pytest.approx(0.8)
    assert found["hmc.n_steps"] < 10
    chain = run(adapted, state, 20, moments, seeded(35))
    for name in ("hmc", "flowed_hmc"):
        assert 0.7 < float(chain.series[f"accepted_{name}"].mean()) < 0.99
    again = cycle.adapted(found)
    assert again.found() == found
    same = run(again, state, 20, moments, seeded(35))
    assert torch.equal(same.series["phi_squared"], chain.series["phi_squared"])


# --- hops between sectors -------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", [(2, 5), (4, 4), (6, 4), (3, 7)])
@pytest.mark.parametrize("charge", [-3, -1, 0, 1, 2])
def test_fields_of_constant_flux(lattice: tuple[int, int], charge: int) -> None:
    field = constant_flux(lattice, charge)[None]
    flux = torch.full((1, *lattice), 2 * math.pi * charge / math.prod(lattice), dtype=torch.float64)
    torch.testing.assert_close(wrapped(plaquette_angles(field) - flux), torch.zeros_like(flux))
    assert float(observables.topological_charge(field)) == charge


def test_a_hop_changes_the_charge_by_one() -> None:
    action = U1Gauge((6, 4), beta=2.0)
    start = wrapped(constant_flux((6, 4), 0)[None] + 0.2 * normal(200, 2, 6, 4, seed=14))
    hop = SectorHop(action)
    before = hop.init(start)
    after, info = hop.step(before, seeded(15))
    change = observables.topological_charge(after.x) - observables.topological_charge(start)
    assert 20 < int(info.accepted.sum()) < 180
    assert torch.equal(change.abs() == 1, info.accepted)
    assert set(change[info.accepted].tolist()) == {-1.0, 1.0}
    assert torch.equal(after.x[~info.accepted], start[~info.accepted])
    torch.testing.assert_close(after.action, action(after.x), rtol=0, atol=1e-10)
    assert float(after.x.abs().max()) <= math.pi


def test_hops_obey_detailed_balance() -> None:
    """From x with exp(−S) to x′ as often as back: among 200 000 chains at x, and as many at x′."""
    action, hop = U1Gauge((4, 4), beta=1.0), SectorHop(U1Gauge((4, 4), beta=1.0))
    lower = constant_flux((4, 4), 0)[None] + 0.3 * normal(1, 2, 4, 4, seed=16)
    upper = wrapped(lower + constant_flux((4, 4), 1))
    rates = []
    for here, there in ((lower, upper), (upper, lower)):
        after, _ = hop.step(hop.init(here.repeat(200_000, 1, 1, 1)), seeded(17))
        reached = wrapped(after.x - there).abs().flatten(1).amax(1) < 1e-6
        rates.append(float(reached.double().mean()))
    odds = float(torch.exp(action(lower) - action(upper)))
    assert abs(odds - 1) > 0.3
    # each rate has an error of less than 0.0012
    assert abs(rates[0] - rates[1] * odds) < 5 * 0.0012 * (1 + odds)
    assert max(rates) == pytest.approx(0.5, abs=0.006)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_hmc_with_hops_finds_the_charge_where_hmc_alone_is_frozen(dtype: torch.dtype) -> None:
    lattice, beta = (6, 4), 8.0
    action = U1Gauge(lattice, beta)
    hmc = HMC(action, 0.12, 6, jitter=0.2)
    start = 0.1 * normal(150, 2, *lattice, seed=18, dtype=dtype)
    expected = exact.u1_charge_squared(lattice, beta)
    alone = run(hmc, start, 30, links, seeded(19), thermalisation=30)
    assert float(alone.series["charge_squared"].mean()) < 0.2 * expected
    cycle = Cycle([hmc, SectorHop(action)], steps=(1, 2))
    chain = run(cycle, start, 120, links, seeded(20), thermalisation=30)
    assert chain.state.x.dtype == dtype
    assert deviation(chain.series["charge_squared"], expected) < 5
    assert deviation(chain.series["charge"], 0.0) < 5
    assert deviation(chain.series["plaquette"], exact.u1_plaquette(lattice, beta)) < 5


def test_a_cycle_with_proposals_of_a_gauge_flow() -> None:
    lattice, beta = (4, 4), 1.0
    action = U1Gauge(lattice, beta)
    flow = perturbed(gauge_flow(lattice, layers=8, bins=4, hidden=(4,), dilation=1).double(), 0.03)
    cycle = Cycle([IndependenceMetropolis(flow, action), HMC(action, 0.3, 3), SectorHop(action)])
    chain = run(cycle, 0.3 * normal(150, 2, *lattice, seed=21), 40, links, seeded(22), thermalisation=10)
    assert 0.001 < float(chain.series["accepted_independence_metropolis"].mean()) < 0.9
    assert deviation(chain.series["charge_squared"], exact.u1_charge_squared(lattice, beta)) < 5
    assert deviation(chain.series["plaquette"], exact.u1_plaquette(lattice, beta)) < 5


@pytest.mark.slow
def test_hops_carry_hmc_across_zeros_of_the_determinant() -> None:
    """Alone HMC keeps the sign of det D; with hops 48 to 88 of 3136 trajectories changed it (8 seeds)."""
    action, generator = Schwinger((8, 8), beta=2.0, kappa=0.276), torch.Generator().manual_seed(1)
    x = action.kind.start(action.lattice, 64, generator, torch.float64)
    hmc = HMC(action, 0.2, 5)
    crossings = []
    for sampler in (hmc, Cycle([hmc, SectorHop(action)])):
        state, signs = sampler.init(x), []
        for _ in range(50):
            state, _ = sampler.step(state, generator)
            signs.append(determinant_sign(sampler.field(state), kappa=0.276))
        crossings.append(int((torch.stack(signs).diff(dim=0) != 0).sum()))
    assert crossings[0] == 0
    assert crossings[1] >= 20


def test_hops_of_the_schwinger_model_keep_the_fermions_action() -> None:
    action = Schwinger((4, 4), beta=1.0, kappa=0.2)
    hop = SectorHop(action)
    state = hop.init(0.5 * normal(20, 2, 4, 4, seed=23))
    for seed in range(3):
        state, info = hop.step(state, seeded(seed))
    assert bool(info.accepted.any())
    torch.testing.assert_close(state.action, action(state.x), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="expected a theory of links, got one of scalar"):
        SectorHop(ACTION)


def test_an_action_that_one_kernel_knows_is_not_evaluated_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hops after HMC evaluate their proposals alone, and shifts after hops too."""
    action, asked = U1Gauge((4, 6), beta=2.0), []
    evaluated = U1Gauge.__call__

    def counted(self: U1Gauge, x: Tensor) -> Tensor:
        asked.append(len(x))
        return evaluated(self, x)

    cycle = Cycle([HMC(action, 0.3, 3), SectorHop(action), HolonomyShift(action)], steps=(1, 2, 1))
    state = cycle.init(0.3 * normal(7, 2, 4, 6, seed=24))
    monkeypatch.setattr(U1Gauge, "__call__", counted)
    for seed in range(3):
        state, _ = cycle.step(state, seeded(seed))
    assert asked == 3 * [7, 7, 7]
    held = state.kernels[-1].action
    torch.testing.assert_close(held, evaluated(action, state.x), rtol=0, atol=1e-11)
    # of another object nobody knows that its action is the same, constants included
    apart = Cycle([HMC(action, 0.3, 3), SectorHop(U1Gauge((4, 6), beta=2.0))])
    state = apart.init(0.3 * normal(7, 2, 4, 6, seed=24))
    asked.clear()
    apart.step(state, seeded(1))
    assert len(asked) == 2


# --- shifts of the holonomies ---------------------------------------------------------------------


def test_a_shift_turns_the_loops_around_the_torus_and_no_plaquette() -> None:
    action = U1Gauge((3, 5), beta=2.0)
    shift = HolonomyShift(action)
    start = shift.init(0.5 * normal(400, 2, 3, 5, seed=25))
    after, info = shift.step(start, seeded(26))
    assert bool(info.accepted.all())
    moved = wrapped(plaquette_angles(after.x) - plaquette_angles(start.x))
    torch.testing.assert_close(moved, torch.zeros_like(moved), rtol=0, atol=1e-12)
    for direction in (0, 1):
        turned = wrapped((after.x - start.x)[:, direction].sum(direction + 1))
        torch.testing.assert_close(turned, turned[:, :1].expand_as(turned), rtol=0, atol=1e-12)
        # uniform angles: the mean of their cosine has an error of 1/√800
        assert abs(float(turned[:, 0].cos().mean())) < 5 / 800**0.5
        assert float(turned[:, 0].abs().max()) > 3
    with pytest.raises(ValueError, match="expected a theory of links, got one of scalar"):
        HolonomyShift(ACTION)
    assert not shift.ergodic


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_shifts_and_hops_sample_the_schwinger_model(dtype: torch.dtype) -> None:
    """The Polyakov loop, Q² and cos P as pure gauge configurations, drawn exactly, weighted with det D²."""
    action = Schwinger((4, 3), beta=1.5, kappa=0.25)
    hmc = HMC.of_length(action, 0.5, 2, jitter=0.2, inner_steps=2)
    cycle = Cycle([hmc, SectorHop(action), HolonomyShift(action)], steps=(1, 1, 2))
    chain = run(cycle, 0.3 * normal(150, 2, 4, 3, seed=27, dtype=dtype), 40, loops, seeded(28), 15)
    assert 0.2 < float(chain.series["accepted_holonomy_shift"].mean()) < 0.99
    draws, _ = action.first.exact_sampler().sample(8000, seeded(29))
    log_weight = -action.second(draws)
    for name, values in loops(draws).items():
        expected = measure(values.double().numpy(), log_weight.numpy())
        found = chain.series[name].double().mean(0)
        error = float(found.std()) / len(found) ** 0.5
        assert abs(expected.pull(float(found.mean()), error)) < 5, name
        assert error < 0.05
    # the fermions are seen: without their weight the Polyakov loop averages to zero
    assert abs(float(chain.series["polyakov"].mean())) > 0.02


def loops(x: Tensor) -> dict[str, Tensor]:
    return {
        "polyakov": observables.polyakov_loop(x).real,
        "charge_squared": observables.topological_charge(x) ** 2,
        "plaquette": observables.plaquette(x),
    }
