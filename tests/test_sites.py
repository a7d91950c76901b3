"""Theories as weights of single sites: integrals over half of the lattice, and draws from them."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from latflow.exact import spin_states
from latflow.lattice import checkerboard
from latflow.theories import HoppingPhi4, Ising, Phi4
from latflow.theories.line import Grid, ResolutionError
from latflow.theories.sites import LineWeight, SpinWeight, staircases
from latflow.theories.staircase import StaircaseError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


ACTIONS = [
    HoppingPhi4((4, 6), beta=0.62, lam=0.5),
    HoppingPhi4((4, 4), beta=-0.4, lam=0.1),
    Phi4((4, 4), m2=-4.0, lam=8.0),
    Phi4((4, 4), m2=1.0, lam=0.0),
    Ising((4, 6), beta=0.44),
    Ising((4, 4), beta=0.3, field=0.2),
    0.7 * HoppingPhi4((4, 4), beta=0.6, lam=0.5),
    0.5 * Ising((4, 4), beta=0.6, field=0.1),
]


def a_field(action, n=3, seed=1):
    x = torch.randn(n, *action.lattice, generator=seeded(seed), dtype=torch.float64)
    return x.sign() if action.kind.states else 0.8 * x


@pytest.mark.parametrize("action", ACTIONS, ids=lambda one: one.words.name + one.words.parameters)
def test_the_parts_add_up_to_the_action(action):
    """S = Σ V − J Σ x x, and S = S_eff(even) − Σ_odd log p(odd | even)."""
    parts, x = action.nearest_neighbours(), a_field(action)
    sites = parts.site.potential(x) - 0.5 * x * parts.fields(x)
    torch.testing.assert_close(sites.flatten(1).sum(1), action(x), rtol=1e-12, atol=1e-10)
    odd = checkerboard(action.lattice, 1)
    conditional = parts.site.log_prob(x, parts.fields(x))[:, odd].sum(1)
    torch.testing.assert_close(parts.effective_action(x) - conditional, action(x), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(
    "site", [HoppingPhi4((4, 4), 0.65, 0.5), Phi4((4, 4), -4.0, 8.0), Phi4((4, 4), 1.0, 0.0)]
)
def test_log_partition_is_the_integral_over_the_line(site):
    weight = site.nearest_neighbours().site
    for h in (0.0, 0.3, -2.7, 0.6 * weight.neighbours * weight.cut):
        exponent = lambda x, h=h: h * x - float(weight.potential(torch.tensor(x, dtype=torch.float64)))  # noqa: E731
        grid = np.linspace(-2 * weight.cut, 2 * weight.cut, 4001)
        peak = max(exponent(x) for x in grid)
        at = grid[np.argmax([exponent(x) for x in grid])]
        total, _ = integrate.quad(lambda x: math.exp(exponent(x) - peak), at - weight.cut, at + weight.cut)  # noqa: B023
        found = weight.log_partition(torch.tensor([h], dtype=torch.float64)).item()
        assert found == pytest.approx(peak + math.log(total), abs=2e-8), h


def test_the_free_field_has_gaussian_weights():
    """V = a x²: log z(h) = h²/4a + ½ log π/a."""
    weight = Phi4((4, 4), m2=1.0, lam=0.0).nearest_neighbours().site
    h = torch.linspace(-20, 20, 101, dtype=torch.float64)
    torch.testing.assert_close(
        weight.log_partition(h), h**2 / 20 + 0.5 * math.log(math.pi / 5), atol=1e-8, rtol=0
    )


def test_the_even_sites_alone_have_the_partition_function_of_all():
    action = Ising((2, 6), beta=0.5, field=0.1)
    x, even = spin_states((2, 6)), checkerboard((2, 6), 0)
    some = x[(x[:, ~even] == 1).all(1)]
    log_z = torch.logsumexp(-action.nearest_neighbours().effective_action(some), 0)
    assert log_z.item() == pytest.approx(torch.logsumexp(-action(x), 0).item(), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("h", [0.0, 0.7, -3.0])
def test_numbers_are_drawn_from_their_weight(h, dtype):
    """Kolmogorov and Smirnov against the integral, for draws of both theories."""
    weight = HoppingPhi4((4, 4), beta=0.65, lam=0.5).nearest_neighbours().site
    drawn = weight.draw(torch.full((40_000,), h, dtype=dtype), seeded(3))
    assert drawn.dtype == dtype
    fine = np.linspace(-weight.cut, weight.cut, 20_001)
    p = np.exp(h * fine - weight.potential(torch.tensor(fine)).numpy())
    cumulative = np.concatenate([[0], np.cumsum((p[1:] + p[:-1]) / 2)])
    test = stats.kstest(drawn.double().numpy(), lambda x: np.interp(x, fine, cumulative / cumulative[-1]))
    assert test.pvalue > 1e-3


def test_spins_are_drawn_from_their_weight():
    drawn = SpinWeight(0.2).draw(torch.full((40_000,), 0.3, dtype=torch.float64), seeded(1))
    assert drawn.mean().item() == pytest.approx(math.tanh(0.5), abs=5 / math.sqrt(40_000))


def normal(grid, given):
    """Proposals from densities exp(−(scale · x)²)."""
    scale = given["scale"]
    log_p = -((grid.x[:, None].to(scale) * scale) ** 2)
    return grid.proposals(log_p, lambda x: -((scale * x) ** 2), given)


def test_a_grid_gives_draws_with_their_density():
    """Of normal densities: log q, and a variance, than which that of the interpolant is 7 % larger."""
    grid = Grid(1.5, 28)
    scale = torch.tensor([2.0, 4.0], dtype=torch.float64).repeat(50_000)
    x, log_q = grid.draw(partial(normal, grid), {"scale": scale}, {}, seeded(2))
    exact = torch.log(scale) - 0.5 * math.log(math.pi) - (scale * x) ** 2
    torch.testing.assert_close(log_q[1::2], exact[1::2], atol=1e-7, rtol=0)
    assert (x[1::2] ** 2).mean().item() == pytest.approx(1 / 32, rel=5 * math.sqrt(2 / 50_000))


def test_a_grid_that_is_too_coarse_says_so():
    grid = Grid(3.0, 12)
    with pytest.raises(ResolutionError, match="12 nodes on"):
        grid.draw(partial(normal, grid), {"scale": torch.full((100,), 20.0)}, {}, seeded())


@pytest.mark.parametrize("action", ACTIONS, ids=lambda one: one.words.name + one.words.parameters)
def test_heat_bath_leaves_one_colour_alone(action):
    parts, x = action.nearest_neighbours(), a_field(action)
    even = checkerboard(action.lattice, 0)
    redrawn = parts.redrawn(x, 1, seeded())
    assert torch.equal(redrawn[:, even], x[:, even])
    if not action.kind.states:
        assert bool((redrawn[:, ~even] != x[:, ~even]).all())


def test_heat_bath_keeps_the_free_field():
    action = Phi4((4, 4), m2=1.0, lam=0.0)
    parts, x = action.nearest_neighbours(), torch.zeros(4000, 4, 4, dtype=torch.float64)
    for step in range(60):
        x = parts.redrawn(x, step % 2, seeded(step))
    assert (x**2).mean().item() == pytest.approx(action.known()["phi_squared"].value, rel=0.02)


def test_what_is_no_such_theory_says_none():
    glass = Ising((2, 2), beta=1.0, couplings=np.ones((2, 2, 2)).tolist())
    assert glass.nearest_neighbours() is None
    assert (2.0 * glass).nearest_neighbours() is None
    with pytest.raises(ValueError, match="a checkerboard needs even sides"):
        HoppingPhi4((3, 4), 0.5, 0.5).nearest_neighbours().effective_action(torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="holds a field of equal sites"):
        LineWeight.of({2: 1.0}, neighbours=4.0)
    with pytest.raises(ValueError, match="expected even powers"):
        LineWeight.of({3: 1.0}, neighbours=0.0)


@pytest.mark.parametrize(
    "action",
    [
        HoppingPhi4((4, 4), 0.65, 0.5),
        HoppingPhi4((4, 4), 0.6, 40.0),
        Phi4((4, 4), 1.0, 0.0),
        Phi4((4, 4), -3.0, 0.3),
    ],
    ids=lambda one: one.words.parameters,
)
def test_staircases_lie_above_every_density_and_waste_little(action):
    """At fine x in fields of all sizes, the middles and ends of cells among them."""
    weight = action.nearest_neighbours().site
    stairs = staircases(weight)
    edges, means, bounds = stairs._tables
    assert bool((edges.diff(dim=1) >= 0).all())
    assert (
        float((edges[:, 0] + weight.cut).abs().max()) == float((edges[:, -1] - weight.cut).abs().max()) == 0
    )
    x = torch.linspace(-weight.cut, weight.cut, 40_001, dtype=torch.float64)
    for cell in range(0, stairs.cells, 7):
        step = (torch.searchsorted(edges[cell], x, right=True) - 1).clamp(0, edges.shape[1] - 2)
        for part in (0.0, 0.5, 1.0):
            h, middle = (cell + part) * stairs.width, (cell + 0.5) * stairs.width
            exponent = h * x - weight.potential(x) - bounds[cell] - (h - middle) * means[cell]
            chance = edges[cell].diff()[step] * torch.exp(exponent)
            assert 0.9 < float(chance.max()) < 1
    h = 2 * weight.typical * torch.randn(10_000, generator=seeded(1))
    _, chance = stairs._proposed(h.clamp(-stairs.largest, stairs.largest), seeded(2))
    assert 0.88 < float(chance.mean()) < 1


def test_fields_beyond_those_of_neighbours_are_drawn_or_refused():
    weight = Phi4((4, 4), m2=1.0, lam=0.0).nearest_neighbours().site
    stairs = staircases(weight)
    h = torch.full((20_000,), 1.05 * stairs.largest, dtype=torch.float64)
    spread = math.sqrt(0.1 / len(h))
    assert weight.draw(h, seeded(1)).mean().item() == pytest.approx(h[0].item() / 10, abs=5 * spread)
    with pytest.raises(StaircaseError, match=r"expected fields \|h\| ≤"):
        stairs.draw(2 * h, seeded(1))
    assert weight.draw(h[:0], seeded(1)).shape == (0,)
