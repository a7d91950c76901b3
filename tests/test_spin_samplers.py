"""Single spins and clusters: exact means on small lattices, in fields and glasses, and chains that go on."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from latflow import exact
from latflow.observables import bond_energy, magnetization
from latflow.samplers import Sampler, SingleSpin, SwendsenWang, Wolff, run
from latflow.samplers.spins import connected_components
from latflow.storage import load_tree, save_tree
from latflow.theories import Action, Ising, Phi4

CRITICAL = 0.44068679
SAMPLERS: dict[str, Callable[[Action], Sampler]] = {
    "metropolis": lambda action: SingleSpin(action, "metropolis"),
    "heat_bath": SingleSpin,
    "swendsen_wang": SwendsenWang,
    "wolff": Wolff,
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def start(chains: int, lattice: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.where(torch.rand(chains, *lattice, generator=seeded(7)) < 0.5, 1.0, -1.0).to(dtype)


def glass(lattice: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).choice([-1.0, 1.0, 0.4], (len(lattice), *lattice))


def assert_within_five_sigma(series: Tensor, expected: float) -> None:
    """The mean of (step, chain) against `expected`, the spread taken over the means of independent chains."""
    means = series.double().mean(0)
    value, error = float(means.mean()), float(means.std()) / math.sqrt(len(means))
    assert abs(value - expected) < 5 * error, f"{value} ± {error} against {expected}"


MODELS = {
    "critical": Ising((4, 4), CRITICAL),
    "ordered, two bonds a pair": Ising((2, 4), 0.5),
    "field": Ising((4, 2), 0.3, field=0.1),
    "antiferromagnet": Ising((4, 4), -0.35, field=0.2),
    "glass": Ising((4, 4), 0.6, field=-0.05, couplings=glass((4, 4))),
    "ring": Ising((6,), 0.6, field=0.1),
    "cube": Ising((2, 2, 2), 0.2, field=0.05),
    "a sum": 0.5 * Ising((4, 2), 0.3) + Ising((4, 2), 0.2, field=0.1),
}


@every_sampler
@pytest.mark.parametrize("model", MODELS)
def test_means_are_those_of_the_enumeration(name, model):
    """300 independent chains give the spread; of the energy, its fluctuations, M and |M|."""
    action = MODELS[model]
    known = exact.spins_enumerated(action)

    def observe(x: Tensor) -> dict[str, Tensor]:
        s, m = action(x).double(), magnetization(x)
        return {"s": s, "variance": (s - known.action) ** 2, "m": m, "m_abs": m.abs()}

    chain = run(
        SAMPLERS[name](action), start(300, action.lattice), 250, observe, seeded(1), thermalisation=60
    )
    assert_within_five_sigma(chain.series["s"], known.action)
    assert_within_five_sigma(chain.series["variance"], known.action_variance)
    assert_within_five_sigma(chain.series["m"], known.m)
    assert_within_five_sigma(chain.series["m_abs"], known.m_abs)


@pytest.mark.parametrize("name", ["swendsen_wang", "wolff"])
@pytest.mark.parametrize("lattice", [(3, 3), (3, 5)])
def test_clusters_need_no_checkerboard(name, lattice):
    action = Ising(lattice, 0.4, field=0.03)
    known = exact.spins_enumerated(action)
    observe = lambda x: {"s": action(x), "m": magnetization(x)}  # noqa: E731
    chain = run(SAMPLERS[name](action), start(300, lattice), 250, observe, seeded(1), thermalisation=30)
    assert_within_five_sigma(chain.series["s"], known.action)
    assert_within_five_sigma(chain.series["m"], known.m)


def test_a_rectangle_has_the_energy_of_kaufman_and_the_magnetisation_of_the_transfer_matrix():
    action = Ising((8, 4), CRITICAL)
    observe = lambda x: {"e": bond_energy(x), "m": magnetization(x).abs()}  # noqa: E731
    chain = run(SwendsenWang(action), start(200, (8, 4)), 300, observe, seeded(2), thermalisation=40)
    assert_within_five_sigma(chain.series["e"], exact.ising_energy((8, 4), CRITICAL))
    distribution = exact.ising_magnetization((8, 4), CRITICAL)
    assert_within_five_sigma(chain.series["m"], distribution.mean_of(np.abs))


def test_clusters_forget_in_a_few_steps_what_single_spins_keep():
    """At K_c on 16² the mean of |M| over steps is far noisier from chain to chain with single spins."""
    action = Ising((16, 16), CRITICAL)
    spread = {}
    for name in ("heat_bath", "swendsen_wang"):
        chain = run(
            SAMPLERS[name](action),
            start(60, (16, 16)),
            100,
            lambda x: {"m": magnetization(x).abs()},
            seeded(3),
            100,
        )
        spread[name] = float(chain.series["m"].mean(0).std())
    # τ of |M| is near 3 steps against some 100 sweeps; a chain of 100 steps shows a factor of 3 in the error
    assert spread["heat_bath"] > 1.8 * spread["swendsen_wang"]


@every_sampler
def test_one_step_leaves_the_exact_distribution(name):
    """χ² of 16 states after one step from exact draws: 15 degrees of freedom, below 15 + 5·√30."""
    action = Ising((2, 2), 0.2, field=0.15, couplings=glass((2, 2)))
    states = exact.spin_states((2, 2)).float()
    p = torch.softmax(-action(states).double(), 0)
    chains = 40_000
    x = states[torch.multinomial(p, chains, replacement=True, generator=seeded(4))]
    state, _ = SAMPLERS[name](action).step(SAMPLERS[name](action).init(x), seeded(5))
    powers = 2 ** torch.arange(3, -1, -1)
    numbers = ((1 - state.x.flatten(1)).long() // 2 * powers).sum(1)
    counted = torch.bincount(numbers, minlength=16).double()
    chi2 = float(((counted - chains * p) ** 2 / (chains * p)).sum())
    assert chi2 < 15 + 5 * math.sqrt(30), chi2


@every_sampler
def test_without_coupling_spins_are_independent(name):
    """At β = 0 one step of the heat bath or of Swendsen and Wang is a fresh draw; all have M = tanh h."""
    action = Ising((4, 4), 0.0, field=0.4)
    chain = run(
        SAMPLERS[name](action), start(400, (4, 4)), 200, lambda x: {"m": magnetization(x)}, seeded(6), 150
    )
    assert_within_five_sigma(chain.series["m"], math.tanh(0.4))


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_interrupted_history_goes_on_bit_for_bit(tmp_path: Path, name, dtype):
    sampler, observe = SAMPLERS[name](Ising((4, 6), 0.4)), lambda x: {"field": x}
    whole = run(sampler, start(3, (4, 6), dtype), 8, observe, seeded(1))
    generator = seeded(1)
    first = run(sampler, start(3, (4, 6), dtype), 4, observe, generator)
    tree = {"state": sampler.state_dict(first.state), "generator": generator.get_state()}
    save_tree(tmp_path / "chain", tree)
    tree, resumed = load_tree(tmp_path / "chain"), Generator()
    resumed.set_state(tree["generator"])
    second = run(sampler, sampler.state_from_dict(tree["state"]), 4, observe, resumed)
    assert whole.series["field"].dtype == dtype
    for key in ("field", "accepted"):
        assert torch.equal(whole.series[key], torch.cat([first.series[key], second.series[key]]))
    assert bool((whole.series["field"].abs() == 1).all())


@every_sampler
def test_the_share_of_changed_sites_is_reported_and_the_start_is_kept(name):
    x = start(5, (4, 4))
    sampler = SAMPLERS[name](Ising((4, 4), 0.3))
    before = x.clone()
    state = sampler.init(x)
    moved, info = sampler.step(state, seeded(8))
    assert torch.equal(x, before)
    assert torch.equal(state.x, before)
    torch.testing.assert_close(info.accepted, (moved.x != x).flatten(1).float().mean(1))
    assert float(info.accepted.sum()) > 0
    single, _ = sampler.step(sampler.init(x[:1]), seeded(8))
    assert single.x.shape == (1, 4, 4)


def naive_clusters(occupied: np.ndarray) -> list[set[tuple[int, ...]]]:
    """By flooding, site after site."""
    shape, left, found = occupied.shape[1:], set(np.ndindex(*occupied.shape[1:])), []
    while left:
        cluster, edge = set(), [left.pop()]
        while edge:
            site = edge.pop()
            cluster.add(site)
            for mu in range(len(occupied)):
                for step in (1, -1):
                    other = list(site)
                    other[mu + 1] = (other[mu + 1] + step) % shape[mu + 1]
                    bond = (mu, *site) if step == 1 else (mu, *other)
                    if occupied[bond] and tuple(other) in left:
                        left.remove(tuple(other))
                        edge.append(tuple(other))
        found.append(cluster)
    return found


@pytest.mark.parametrize("lattice", [(5,), (2, 3), (6, 5), (2, 3, 4)])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.6, 1.0])
def test_components_are_those_of_flooding(lattice, density):
    occupied = torch.rand(len(lattice), 4, *lattice, generator=seeded(9)) < density
    labels, number = connected_components(occupied)
    expected = naive_clusters(occupied.numpy())
    assert number == len(expected)
    flat = labels.view(4, *lattice).numpy()
    assert sorted(len({flat[site] for site in cluster}) for cluster in expected) == [1] * number
    assert len({flat[next(iter(cluster))] for cluster in expected}) == number


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="even sides"):
        SingleSpin(Ising((3, 4), 0.3))
    diluted = np.ones((1, 4))
    diluted[0, 1:3] = 0
    with pytest.raises(ValueError, match="a bond or a field at every site"):
        SingleSpin(Ising((4,), 0.3, couplings=diluted), "metropolis")
    SingleSpin(Ising((4,), 0.3, field=0.1, couplings=diluted), "metropolis")
    SingleSpin(Ising((4,), 0.3, couplings=diluted))
    for build in (SingleSpin, SwendsenWang, Wolff):
        with pytest.raises(ValueError, match="expected an Ising model"):
            build(Phi4((4, 4), 1.0, 0.5))
        sampler = build(Ising((4, 4), 0.3))
        with pytest.raises(ValueError, match=r"expected a spins field on the lattice \(4, 4\)"):
            sampler.init(torch.ones(2, 4, 6))
        with pytest.raises(ValueError, match="expected spins ±1"):
            sampler.init(torch.full((2, 4, 4), 0.5))


@pytest.mark.gpu
@every_sampler
def test_a_gpu_has_the_same_means(name):
    action = Ising((4, 4), CRITICAL, field=0.05, couplings=np.ones((2, 4, 4)))
    known = exact.spins_enumerated(action)
    observe = lambda x: {"s": action(x), "m": magnetization(x)}  # noqa: E731
    generator = Generator("cuda").manual_seed(1)
    chain = run(SAMPLERS[name](action), start(300, (4, 4)).cuda(), 250, observe, generator, thermalisation=60)
    assert_within_five_sigma(chain.series["s"], known.action)
    assert_within_five_sigma(chain.series["m"], known.m)
