"""Clusters of signs with sweeps of the heat bath: exact means, exact steps, and chains that go on."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from latflow import exact
from latflow.config import load_config
from latflow.observables import bond_energy
from latflow.registry import load
from latflow.runs import Run
from latflow.samplers import EmbeddedClusters, run
from latflow.storage import load_tree, save_tree
from latflow.theories import HoppingPhi4, Ising, Phi4


def seeded(seed=0):
    return Generator().manual_seed(seed)


def start(action, chains=300, dtype=torch.float32):
    return 0.7 * torch.randn(chains, *action.lattice, generator=seeded(7)).to(dtype)


def assert_within_five_sigma(series, expected):
    """The mean of (step, chain), the spread taken over the means of independent chains."""
    means = series.double().mean(0)
    value, error = float(means.mean()), float(means.std()) / math.sqrt(len(means))
    assert abs(value - expected) < 5 * error, f"{value} ± {error} against {expected}"


def observe(action):
    def observed(x):
        x = x.double()
        m2 = x.flatten(1).sum(1) ** 2 / x[0].numel()
        return {"phi_squared": (x * x).flatten(1).mean(1), "m2": m2, "action": action(x)}

    return observed


def on_a_ring(action):
    """⟨φ²⟩, V⟨M²⟩ and ⟨S⟩ of a ring by its transfer matrix on a grid: Z = Tr T^L."""
    theory, (length,) = action.nearest_neighbours(), action.lattice
    x, v = theory.site.grid.x, theory.site.potential(theory.site.grid.x)
    t = torch.exp(theory.coupling * x[:, None] * x - (v[:, None] + v) / 2)
    t /= torch.linalg.eigvalsh(t)[-1]
    powers = [torch.matrix_power(t, n) for n in range(length + 1)]
    z = torch.trace(powers[length])

    def two_point(r, left, right):
        return float(((left[:, None] * powers[r]) * (right[:, None] * powers[length - r]).T).sum() / z)

    correlation = [two_point(r, x, x) for r in range(length)]
    potential = two_point(0, v, torch.ones_like(v))
    mean_action = length * (potential - theory.coupling * correlation[1])
    return {"phi_squared": correlation[0], "m2": sum(correlation), "action": mean_action}


RINGS = [
    HoppingPhi4((2,), beta=0.5, lam=0.5),
    HoppingPhi4((6,), beta=1.1, lam=0.5),
    HoppingPhi4((6,), beta=-0.9, lam=1.5),
    Phi4((4,), m2=-3.0, lam=2.0),
    0.7 * HoppingPhi4((4,), beta=1.2, lam=0.2),
]


@pytest.mark.parametrize("action", RINGS, ids=lambda one: one.words.name + one.words.parameters)
def test_means_are_those_of_the_transfer_matrix(action):
    chain = run(EmbeddedClusters(action), start(action), 120, observe(action), seeded(1), thermalisation=30)
    for name, expected in on_a_ring(action).items():
        assert_within_five_sigma(chain.series[name], expected)


def test_means_in_two_dimensions_are_those_of_the_transfer_matrix():
    action = Phi4((4, 4), m2=-4.0, lam=8.0)
    phi_squared, _ = exact.phi4_phi_squared((4, 4), m2=-4.0, lam=8.0)
    chain = run(EmbeddedClusters(action), start(action), 120, observe(action), seeded(2), thermalisation=30)
    assert_within_five_sigma(chain.series["phi_squared"], phi_squared)


FIELDS = [HoppingPhi4((8, 4), 0.64, 0.5), HoppingPhi4((4, 2, 4), 0.4, 0.5), Phi4((4, 4), 1.0, 0.0)]


@pytest.mark.parametrize("action", FIELDS, ids=lambda one: str(one.lattice))
def test_the_virial_of_the_field_is_its_volume(action):
    """⟨Σ φ ∂S/∂φ⟩ = V in any number of dimensions, and V⟨M²⟩ of the free field in closed form."""

    def virial(x):
        x = x.double()
        m2 = x.flatten(1).sum(1) ** 2 / x[0].numel()
        return {"virial": -(x * action.force(x)).flatten(1).sum(1), "m2": m2}

    chain = run(EmbeddedClusters(action), start(action), 120, virial, seeded(3), thermalisation=40)
    assert_within_five_sigma(chain.series["virial"], math.prod(action.lattice))
    if "V_magnetization_squared" in action.known():
        assert_within_five_sigma(chain.series["m2"], action.known()["V_magnetization_squared"].value)


def test_a_steep_potential_makes_ising_spins():
    """λ = 3000 holds |φ| at 1 to 1e-4: the energy of Kaufman's solution, less the site's own."""
    action = HoppingPhi4((4, 4), 0.44, 3000.0)
    signs = lambda x: {"energy": bond_energy(x.sign()), "size": x.abs().mean((1, 2))}  # noqa: E731
    chain = run(EmbeddedClusters(action), start(action).sign(), 250, signs, seeded(4), thermalisation=30)
    assert chain.series["size"].mean().item() == pytest.approx(1, abs=3e-4)
    assert_within_five_sigma(chain.series["energy"], exact.ising_energy((4, 4), 0.44))


def test_one_step_leaves_the_exact_distribution():
    """Of two sites, alone and their product: by Kolmogorov and Smirnov after a step from exact draws."""
    action, n = HoppingPhi4((2,), beta=0.7, lam=0.5), 40_000
    site = action.nearest_neighbours().site
    x = torch.linspace(-site.cut, site.cut, 1201, dtype=torch.float64)
    pairs = torch.cartesian_prod(x, x)
    p = torch.softmax(-action(pairs), 0).view(1201, 1201)
    rows = torch.multinomial(p.sum(1), n, replacement=True, generator=seeded(5))
    columns = torch.searchsorted(p.cumsum(1)[rows], p.sum(1)[rows, None] * torch.rand(n, 1).double())
    drawn = torch.stack((x[rows], x[columns[:, 0].clamp(max=1200)]), 1)
    sampler = EmbeddedClusters(action)
    turned = sampler._turned(drawn, seeded(6))
    state, _ = sampler.step(sampler.init(drawn), seeded(8))
    assert torch.equal(turned.abs(), drawn.abs())
    assert 0.1 < (turned.sign() != drawn.sign()).double().mean() < 0.6
    for after in (turned, state.x):
        for one in (lambda x: x[:, 0], lambda x: x[:, 1], lambda x: x[:, 0] * x[:, 1]):
            assert stats.ks_2samp(one(after).numpy(), one(drawn).numpy()).pvalue > 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_interrupted_history_goes_on_bit_for_bit(tmp_path: Path, dtype):
    action = HoppingPhi4((4, 6), 0.6, 0.5)
    sampler, fields = EmbeddedClusters(action, sweeps=2), lambda x: {"field": x}
    whole = run(sampler, start(action, 3, dtype), 8, fields, seeded(1))
    generator = seeded(1)
    first = run(sampler, start(action, 3, dtype), 4, fields, generator)
    save_tree(tmp_path / "chain", {"state": sampler.state_dict(first.state), "g": generator.get_state()})
    tree, resumed = load_tree(tmp_path / "chain"), Generator()
    resumed.set_state(tree["g"])
    second = run(sampler, sampler.state_from_dict(tree["state"]), 4, fields, resumed)
    assert whole.series["field"].dtype == dtype
    for key in ("field", "accepted"):
        assert torch.equal(whole.series[key], torch.cat([first.series[key], second.series[key]]))


def test_the_share_of_changed_signs_is_reported_and_the_start_is_kept():
    action = HoppingPhi4((4, 4), 0.6, 0.5)
    x, sampler = start(action, 5), EmbeddedClusters(action)
    state, before = sampler.init(x), x.clone()
    moved, info = sampler.step(state, seeded(8))
    assert torch.equal(state.x, before)
    torch.testing.assert_close(info.accepted, (moved.x.sign() != x.sign()).flatten(1).float().mean(1))
    single, _ = sampler.step(sampler.init(x[:1]), seeded(8))
    assert single.x.shape == (1, 4, 4)
    far, _ = sampler.step(sampler.init(3 * x), seeded(8))
    assert far.x.abs().max() < 4


def test_a_run_has_it_beside_its_model(tmp_path):
    changes = ["name=small", "action.lattice=[4, 4]", "beside.kernels=clusters", "beside.steps=60"]
    changes += [
        "beside.clusters.sweeps=2",
        "beside.chains=8",
        "beside.thermalisation=10",
        "compute.threads=1",
    ]
    made = Run.create(tmp_path / "run", load_config("phi4-critical-16", changes))
    made.sample_beside()
    assert made.samplers("beside") == {"clusters": EmbeddedClusters(made.action, 2)}
    assert made.series("beside")["action"].shape == (60, 8)
    assert np.isfinite(made.series("beside")["action"]).all()
    assert load("samplers", "clusters") is EmbeddedClusters


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="even sides"):
        EmbeddedClusters(HoppingPhi4((3, 4), 0.6, 0.5))
    with pytest.raises(ValueError, match="at least one sweep after the clusters, got 0"):
        EmbeddedClusters(HoppingPhi4((4, 4), 0.6, 0.5), sweeps=0)
    for other in (Ising((4, 4), 0.3, field=0.1), Ising((4, 4), 0.3, couplings=np.ones((2, 4, 4)))):
        with pytest.raises(ValueError, match="for clusters of signs, got Ising model with"):
            EmbeddedClusters(other)
    with pytest.raises(ValueError, match=r"field on the lattice \(4, 4\)"):
        EmbeddedClusters(HoppingPhi4((4, 4), 0.6, 0.5)).init(torch.ones(2, 4, 6))
