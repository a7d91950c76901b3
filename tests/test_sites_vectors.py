"""Sites that are coupled as vectors: states and angles, their weights, and draws from them."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from latflow.lattice import checkerboard
from latflow.samplers.sites import EmbeddedClusters
from latflow.theories import XY, AngleWeight, Ising, Potts, StateWeight
from latflow.theories.line import Circle, ResolutionError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


ACTIONS = [
    Potts((4, 6), q=3, beta=0.9),
    Potts((4, 4), q=4, beta=-0.6, field=(0.3, 0.0, -0.2, 0.1)),
    Potts((2, 4, 4), q=3, beta=0.5, field=0.2),
    0.7 * Potts((4, 4), q=3, beta=1.2, field=0.3),
    XY((4, 6), beta=0.9),
    XY((4, 4), beta=-0.6, field=0.3),
    XY((2, 4, 4), beta=0.5),
    0.7 * XY((4, 4), beta=1.2, field=-0.3),
]
every_theory = pytest.mark.parametrize("action", ACTIONS, ids=lambda one: f"{one.words.name} {one.lattice}")


def a_field(action, n=3, seed=1):
    return action.kind.start(action.lattice, n, seeded(seed), torch.float64)


@every_theory
def test_the_parts_add_up_to_the_action(action):
    """S = Σ V − J Σ e·e, and S = S_eff(even) − Σ_odd log p(odd | even)."""
    parts, x = action.nearest_neighbours(), a_field(action)
    fields = parts.fields(x)
    coupled = (parts.site.vector(x) * fields).sum(0)
    sites = parts.site.potential(x) - 0.5 * coupled
    torch.testing.assert_close(sites.flatten(1).sum(1), action(x), rtol=1e-12, atol=1e-10)
    odd = checkerboard(action.lattice, 1)
    conditional = parts.site.log_prob(x, fields)[:, odd].sum(1)
    torch.testing.assert_close(parts.effective_action(x) - conditional, action(x), rtol=1e-9, atol=1e-8)


@every_theory
def test_a_vector_tells_its_value(action):
    site, x = action.nearest_neighbours().site, a_field(action)
    vector = site.vector(x)
    assert vector.shape == (*site.shape, *x.shape)
    torch.testing.assert_close(site.value(vector), x, rtol=0, atol=1e-14)
    torch.testing.assert_close((vector * vector).sum(0), torch.ones(x.shape, dtype=torch.float64))


@every_theory
@pytest.mark.parametrize("parity", [0, 1])
def test_half_of_the_lattice_is_drawn_anew(action, parity):
    x = a_field(action)
    y = action.nearest_neighbours().redrawn(x, parity, seeded(3))
    kept = checkerboard(action.lattice, 1 - parity)
    action.kind.check_values(y)
    assert y.dtype == x.dtype
    assert torch.equal(x[:, kept], y[:, kept])
    assert not torch.equal(x[:, ~kept], y[:, ~kept])


@pytest.mark.parametrize("field", [0.0, 0.7])
@pytest.mark.parametrize("h", [(0.0, 0.0), (0.3, -0.2), (-5.0, 3.0)])
def test_log_partition_is_the_integral_over_the_circle(field, h):
    site = AngleWeight(field)

    def weight(angle):
        return math.exp((h[0] + field) * math.cos(angle) + h[1] * math.sin(angle))

    expected, _ = integrate.quad(weight, -math.pi, math.pi, epsabs=0, epsrel=1e-12, limit=200)
    found = site.log_partition(torch.tensor(h, dtype=torch.float64))
    assert found.item() == pytest.approx(math.log(expected), abs=1e-11)
    vector = torch.tensor(h, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(site.log_partition(vector), vector)
    assert bool(slope.isfinite().all())


def test_log_partition_of_states_is_the_sum_over_them():
    site, h = StateWeight((0.2, -0.1, 0.4)), torch.randn(3, 5, generator=seeded(), dtype=torch.float64)
    expected = torch.log(sum(torch.exp(h[a] + site.fields[a]) for a in range(3)))
    torch.testing.assert_close(site.log_partition(h), expected)
    x = torch.arange(3)[:, None].expand(3, 5)
    all_h = h[:, None].expand(3, 3, 5)
    torch.testing.assert_close(site.log_prob(x, all_h).exp().sum(0), torch.ones(5, dtype=torch.float64))


def test_states_are_drawn_with_their_probabilities():
    site, n = StateWeight((0.5, 0.0, -0.5, 0.0)), 100_000
    h = torch.tensor([0.1, -0.4, 1.0, -700.0], dtype=torch.float64)
    x = site.draw(h[:, None].expand(-1, n), seeded(1))
    p = site.log_prob(torch.arange(4), h[:, None].expand(-1, 4)).exp()
    counted = torch.bincount(x, minlength=4)
    assert counted[3] == 0
    assert stats.chisquare(counted[:3], (n * p[:3]).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-4, 0.3, 2.0, 40.0])
def test_angles_are_drawn_from_the_density_of_von_mises(size, dtype):
    site, n, toward = AngleWeight(0.4), 40_000, 3.0
    h = torch.tensor([size * math.cos(toward) - 0.4, size * math.sin(toward)], dtype=dtype)
    x = site.draw(h[:, None].expand(-1, n), seeded(2))
    assert x.dtype == dtype
    assert float(x.min()) > -math.pi
    away = np.remainder(x.double().numpy() - toward + math.pi, 2 * math.pi) - math.pi
    assert stats.kstest(away, stats.vonmises(max(size, 1e-6)).cdf).pvalue > 1e-3


def test_symmetries_have_the_names_of_the_kind():
    for action in ACTIONS:
        claimed = action.nearest_neighbours().site.symmetries
        assert set(claimed) <= set(action.kind.symmetries)
    assert Potts((4, 4), 3, 0.5).nearest_neighbours().site.symmetries == ("renaming",)
    assert Potts((4, 4), 3, 0.5, field=0.1).nearest_neighbours().site.symmetries == ()
    assert XY((4, 4), 0.5, field=0.1).nearest_neighbours().site.symmetries == ("z2",)


def test_states_get_new_names_that_keep_the_action():
    action, x = ACTIONS[0], a_field(ACTIONS[0], n=20)
    y = action.kind.symmetries["renaming"](x, seeded(1))
    torch.testing.assert_close(action(y), action(x))
    assert not torch.equal(x, y)


def test_two_states_are_spins():
    """S(β) is that of spins 1 − 2s at β/2 up to a constant, over the even sites as well."""
    potts, ising = Potts((4, 6), q=2, beta=0.9, field=0.3), Ising((4, 6), beta=0.45, field=0.15)
    x = a_field(potts, n=5)
    found = potts.nearest_neighbours().effective_action(x)
    expected = ising.nearest_neighbours().effective_action(1 - 2 * x.double())
    torch.testing.assert_close(found - found[0], expected - expected[0], rtol=0, atol=1e-12)


def test_theories_with_couplings_of_their_own_offer_nothing():
    ones = np.ones((2, 4, 4)).tolist()
    assert Potts((4, 4), 3, 1.0, couplings=ones).nearest_neighbours() is None
    assert XY((4, 4), 1.0, couplings=ones).nearest_neighbours() is None


@pytest.mark.parametrize("action", [ACTIONS[0], ACTIONS[4]])
def test_vectors_have_no_signs_for_clusters(action):
    with pytest.raises(ValueError, match="expected a theory of sites with an even potential"):
        EmbeddedClusters(action)


@pytest.mark.parametrize("toward", [0.0, 1.0, math.pi])
def test_a_circle_has_no_ends(toward):
    """Densities of von Mises in every direction: their integral, and draws."""
    circle, n, kappa = Circle(math.pi, 41), 40_000, 3.0
    log_p = kappa * torch.cos(circle.x - toward)[:, None]
    assert circle.log_normalisation(log_p).item() == pytest.approx(
        math.log(2 * math.pi * special.i0(kappa)), abs=1e-12
    )

    def propose(given):
        log_p = given["kappa"] * torch.cos(circle.x - toward)[:, None]
        return circle.proposals(log_p, lambda x: given["kappa"] * torch.cos(x - toward), given)

    x, log_q = circle.draw(propose, {"kappa": torch.full((n,), kappa, dtype=torch.float64)}, {}, seeded(1))
    away = np.remainder(x.numpy() - toward + math.pi, 2 * math.pi) - math.pi
    assert stats.kstest(away, stats.vonmises(kappa).cdf).pvalue > 1e-3
    torch.testing.assert_close(log_q, kappa * torch.cos(x - toward) - circle.log_normalisation(log_p))
    with pytest.raises(ResolutionError, match="expected densities that 41 nodes"):
        circle.draw(propose, {"kappa": torch.full((50,), 400.0, dtype=torch.float64)}, {}, seeded(1))
