"""Priors of links by sectors, sums of angles, coordinates of links, and holonomies given plaquettes."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Generator

from latflow.densities.base import PathDraws
from latflow.densities.flows import (
    Compose,
    Flow,
    HolonomyMap,
    QuenchedLinks,
    SectorLinks,
    continuous_gauge_flow,
)
from latflow.densities.flows.angle_sums import AngleSums
from latflow.densities.flows.continuous.torus import bilinear_from_uniform, bilinear_to_uniform
from latflow.estimators.path import ForwardPath, of_prior
from latflow.exact import u1_charge_distribution, u1_log_z
from latflow.fields import LINKS
from latflow.lattice import wrapped
from latflow.links import axial_links, gauge_transformed, holonomies, plaquette_angles
from latflow.theories import Schwinger, U1Gauge, WilsonFermions
from latflow.theories.u1 import LinkTheory

CPU = torch.device("cpu")
LATTICES = [(3, 3), (4, 4), (5, 3), (4, 6)]


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def perturbed(module, size, seed=0):
    generator = seeded(seed)
    for parameter in module.parameters():
        parameter.data = size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.double()


def charges(links):
    return (wrapped(plaquette_angles(links)).sum((1, 2)) / (2 * math.pi)).round()


@pytest.mark.parametrize("lattice", LATTICES)
def test_plaquettes_and_holonomies_are_coordinates(lattice):
    x = QuenchedLinks(lattice, 1.0).double().sample(200, seeded(1))
    plaquettes, angles = wrapped(plaquette_angles(x)), holonomies(x)
    y = axial_links(plaquettes, angles)
    assert wrapped(plaquette_angles(y) - plaquettes).abs().max() < 1e-12
    assert wrapped(holonomies(y) - angles).abs().max() < 1e-12
    turned = gauge_transformed(x, torch.randn(200, *lattice, generator=seeded(2), dtype=torch.float64))
    assert wrapped(holonomies(turned) - angles).abs().max() < 1e-11
    assert wrapped(holonomies(-x) + angles).abs().max() < 1e-11
    neutral = charges(x) == 0
    moved = x.roll((1, 2), (2, 3))
    assert neutral.any()
    assert wrapped(holonomies(moved) - angles)[neutral].abs().max() < 1e-11


@pytest.mark.parametrize("sites", [9, 16, 30, 64, 1024])
@pytest.mark.parametrize("beta", [0.0, 2.0, 20.0])
def test_sums_of_angles_are_normalised_as_pure_gauge_theory(sites, beta):
    """Its partition function and distribution of charges, whose absolute error is 10⁻¹⁰."""
    lattice, sums = (sites // 2, 2) if sites % 2 == 0 else (3, 3), AngleSums(sites, 3, CPU)
    numbers = torch.arange(min((sites - 1) // 2, 80) + 1, dtype=torch.float64)
    series = torch.zeros(len(numbers), 6, dtype=torch.float64)
    series[:, 0] = beta
    log_z = sums.log_partition(series, numbers)
    total = torch.cat((log_z, log_z[1:])).logsumexp(0)
    if sites % 2 or beta:  # half of all plaquettes at π have a charge of their own, of measure zero
        assert total.item() == pytest.approx(u1_log_z(lattice, beta), abs=1e-9)
    expected = u1_charge_distribution(lattice, beta, numbers.int().numpy())
    np.testing.assert_allclose((log_z - total).exp(), expected, atol=1e-9)
    assert bool(log_z.isfinite().all())


def test_the_derivative_of_a_partition_function_is_an_average():
    """∂ log Z/∂b_n = ⟨Σ cos nF⟩ and ∂ log Z/∂d_n = ⟨Σ sin nF⟩ over draws: 12 numbers within five sigma.

    Charges up to far beyond any that independent angles would have; sums are exact, angles in their range.
    """
    n = 4000
    for sites, charge, seed in ((9, 0, 1), (9, 3, 2), (16, 1, 3), (30, 2, 4), (64, 12, 5)):
        sums = AngleSums(sites, 3, CPU)
        series = 0.5 * torch.randn(6, generator=seeded(seed), dtype=torch.float64)
        leaf = series[None].clone().requires_grad_()
        number = torch.tensor([float(charge)], dtype=torch.float64)
        (expected,) = torch.autograd.grad(sums.log_partition(leaf, number).sum(), leaf)
        angles = sums.draw(n, series, charge, seeded(seed))
        assert angles.shape == (n, sites)
        assert angles.abs().max() <= math.pi + 1e-12
        torch.testing.assert_close(angles.sum(1), torch.full((n,), 2 * math.pi * charge).double())
        waves = sums.waves(angles).sum(1)
        pulls = (waves.mean(0) - expected[0]) / (waves.std(0) / math.sqrt(n))
        assert pulls.abs().max() < 5, (sites, charge, pulls)
        # all places are alike, though they are drawn in an order
        places = angles.cos().mean(0)
        spread = angles.cos().std(0) / math.sqrt(n)
        assert ((places - places.mean()) / spread).abs().max() < 5


def test_single_angles_have_their_density():
    """χ² over 40 bins against the density by quadrature: mean 39, spread √78."""
    sums = AngleSums(9, 2, CPU)
    from latflow.densities.flows.angle_sums import _Single

    series, tilt, n = torch.tensor([1.5, -0.4, 0.3, 0.2], dtype=torch.float64), 0.4, 200_000
    angles = _Single(sums, series, tilt).draw((n, 1), seeded(1)).flatten()
    counted = torch.histc(angles, 40, -math.pi, math.pi)
    fine = (torch.arange(40 * 200, dtype=torch.float64) + 0.5) * (2 * math.pi / 8000) - math.pi
    density = (sums.waves(fine) @ series + tilt * fine).exp().view(40, 200).sum(1)
    expected = n * density / density.sum()
    chi2 = ((counted - expected) ** 2 / expected).sum()
    assert abs(chi2 - 39) < 5 * math.sqrt(78)


@pytest.mark.parametrize("lattice", LATTICES)
def test_sectors_begin_as_pure_gauge_theory(lattice):
    quenched, sectors = QuenchedLinks(lattice, 2.0).double(), SectorLinks(lattice, 2.0).double()
    for x in (quenched.sample(300, seeded(1)), sectors.sample(300, seeded(2))):
        torch.testing.assert_close(sectors.log_prob(x), quenched.log_prob(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("lattice", [(3, 3), (4, 4), (5, 3)])
def test_sectors_are_normalised_and_drawn_as_they_say(lattice):
    """⟨p/q⟩_q = ⟨q/p⟩_p = 1 with pure gauge theory as p, and P(|Q|) of the draws: all within five sigma."""
    n = 20_000
    quenched = QuenchedLinks(lattice, 1.0).double()
    sectors = perturbed(SectorLinks(lattice, 1.0, terms=3, harmonics=3), 0.15)
    sectors.weights.data *= 0.2  # they tell of |Q|² in the volume of 64 sites
    x, y = quenched.sample(n, seeded(3)), sectors.sample(n, seeded(4))
    with torch.no_grad():
        for ratio in (
            (sectors.log_prob(x) - quenched.log_prob(x)).exp(),
            (quenched.log_prob(y) - sectors.log_prob(y)).exp(),
        ):
            assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(n)
        weighted = (sectors.log_prob(x) - quenched.log_prob(x)).exp()
        for size in range(3):
            # the probability by draws, and by draws of pure gauge theory with weights
            drawn = (charges(y).abs() == size).double()
            other = weighted * (charges(x).abs() == size)
            spread = math.sqrt((drawn.var() + other.var()) / n)
            assert abs(drawn.mean() - other.mean()) < 5 * spread


def test_what_sectors_have_is_free_for_few_charges_and_bounded_for_all():
    """Newton's functions of the charge: 1 at their own, 0 before, and no larger than their limit beyond."""
    sectors = SectorLinks((16, 16), 1.0, terms=3)
    functions = sectors._functions
    np.testing.assert_allclose(functions[:3].tril(), [[1, 0, 0], [1, 1, 0], [1, 1.5, 1]])
    np.testing.assert_allclose(functions[:3].triu(1), 0, atol=1e-15)
    assert len(functions) > 10
    assert bool((functions.diff(dim=0)[:, 1:] >= -1e-15).all())
    assert bool((functions[-1] < torch.tensor([1.001, 3, 8])).all())


def test_every_charge_has_a_probability():
    """Up to the largest that 3×3 and 4×4 plaquettes can have, with weights far from the first ones."""
    for lattice, most in (((3, 3), 4), ((4, 4), 7)):
        sectors = perturbed(SectorLinks(lattice, 2.0, terms=2, harmonics=2), 0.5)
        for charge in range(-most, most + 1):
            plaquettes = torch.full((1, *lattice), 2 * math.pi * charge / math.prod(lattice)).double()
            links = axial_links(plaquettes, torch.zeros(1, 2).double())
            assert charges(links).item() == charge
            assert bool(sectors.log_prob(links).isfinite())


def test_sectors_elsewhere_are_the_same_theory():
    sectors = perturbed(SectorLinks((4, 4), 2.0), 0.2)
    there = sectors.on_lattice((3, 5))
    assert there.weights is sectors.weights
    x, _ = there.sample(4, seeded(1)), None
    assert x.dtype == torch.float64
    back = there.on_lattice((4, 4))
    z = sectors.sample(5, seeded(2))
    torch.testing.assert_close(back.log_prob(z), sectors.log_prob(z))
    for options in ({"beta": -1.0}, {"terms": 0}, {"harmonics": 0}, {"lattice": (2, 4)}):
        with pytest.raises(ValueError, match="expected"):
            SectorLinks(**{"lattice": (4, 4), "beta": 1.0} | options)


@pytest.mark.slow
def test_gradients_of_sectors_are_those_of_the_divergence():
    """∂D(p|q) = −⟨∂ log r⟩_p of pure gauge theory at another β; for weights and shapes, within five sigma.

    The means of the sectors, over the draws that a step has there, shrink the estimate by less than 1 %.
    """
    lattice, n, batches = (3, 3), 4000, 60
    sectors = perturbed(SectorLinks(lattice, 1.0, terms=2, harmonics=1), 0.2, seed=4)
    flow, action = Flow(sectors, Compose()), U1Gauge(lattice, 1.6)
    x = QuenchedLinks(lattice, action.beta).double().sample(100_000, seeded(1))
    found, generator = [], seeded(2)
    for _ in range(batches):
        flow.zero_grad()
        ForwardPath(largest=1e9, reverse=0.0, order=1.0)(flow, action, n, generator).loss.backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in sectors.parameters()]))
    scores = []
    for part in x.split(1000):
        flow.zero_grad()
        (-sectors.log_prob(part).mean()).backward()
        scores.append(torch.cat([parameter.grad.flatten() for parameter in sectors.parameters()]))
    (mean, error), (exact, of_exact) = (
        (rows.mean(0), rows.std(0) / math.sqrt(len(rows))) for rows in map(torch.stack, (found, scores))
    )
    assert (exact[:2].abs() > 0.5).all()
    assert error.max() < 0.1
    assert ((mean - exact).abs() < 5 * (error**2 + of_exact**2).sqrt() + 0.01 * exact.abs()).all()


def test_draws_of_a_rare_sector_alike_leave_its_density_alone():
    sectors = perturbed(SectorLinks((4, 4), 2.0, terms=3, harmonics=2), 0.1)
    x = sectors.sample(2000, seeded(1))
    labels = charges(x).abs()
    assert torch.equal(sectors.strata(x).labels, labels.long())
    drawn = PathDraws(x, sectors.log_prob(x).detach(), x, sectors.log_prob(x), sectors.strata(x))
    of_prior(
        drawn, torch.where(labels >= 2, -3.0, torch.randn(2000, generator=seeded(2)).double())
    ).backward()
    assert sectors.sines.grad[1].abs().max() < 1e-9
    assert min(sectors.sines.grad[0].abs().min(), sectors.weights.grad.abs().min()) > 1


def test_bilinear_densities():
    """There and back, ∫ q = 1 on a fine grid, and cells of draws as often as their mass: χ² of 63 cells."""
    density = torch.rand(1, 8, 8, generator=seeded(1), dtype=torch.float64) ** 2 + 0.01
    n = 50_000
    uniform = (torch.rand(n, 2, generator=seeded(2), dtype=torch.float64) - 0.5) * 2 * math.pi
    many = density.expand(n, -1, -1)
    angles, log_density = bilinear_from_uniform(many, uniform)
    back, log_density_back = bilinear_to_uniform(many, angles)
    torch.testing.assert_close(back, uniform, rtol=0, atol=1e-11)
    torch.testing.assert_close(log_density_back, log_density, rtol=0, atol=1e-11)
    ticks = (torch.arange(200, dtype=torch.float64) + 0.5) * (2 * math.pi / 200) - math.pi
    grid = torch.cartesian_prod(ticks, ticks)
    _, log_q = bilinear_to_uniform(density.expand(len(grid), -1, -1), grid)
    assert log_q.exp().mean().item() == pytest.approx(1, abs=1e-6)
    cells = ((angles / (2 * math.pi) + 0.5) * 8).long()
    counted = torch.bincount(cells[:, 0] * 8 + cells[:, 1], minlength=64)
    corners = [density.roll((-i, -j), (1, 2)) for i, j in itertools.product((0, 1), repeat=2)]
    mass = sum(corners).flatten() / 4
    expected = n * mass / mass.sum()
    chi2 = ((counted - expected) ** 2 / expected).sum()
    assert abs(chi2 - 63) < 5 * math.sqrt(2 * 63)


@dataclass(frozen=True)
class _Waves(LinkTheory):
    """S(h, F) = −log(1.2 + cos h_0 cos(h_1 − 1) + Σ sin² F/V), which no gauge field has: nothing is small."""

    def __call__(self, x):
        return -self._density(x, *holonomies(x).unbind(1)).log()

    def holonomy_density(self, links, angles):
        time, space = torch.cartesian_prod(angles, angles).unbind(1)
        found = [self._density(links, one, other) for one, other in zip(time, space, strict=True)]
        return torch.stack(found, 1).unflatten(1, (len(angles), len(angles)))

    @staticmethod
    def _density(links, time, space):
        rough = plaquette_angles(links).sin().square().mean((1, 2))
        return 1.2 + time.cos() * (space - 1).cos() + rough


THEORIES = [_Waves, lambda lattice: Schwinger(lattice, 1.0, 0.25)]


@pytest.mark.parametrize("make", THEORIES)
@pytest.mark.parametrize("lattice", [(4, 4), (5, 3)])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_holonomies_are_mapped_and_nothing_else(make, lattice, dtype, rounding):
    holonomy_map = HolonomyMap(make(lattice))
    x = SectorLinks(lattice, 1.0).sample(100, seeded(1)).to(dtype)
    assert set(charges(x).abs().tolist()) >= {0.0, 1.0}
    y, log_det = holonomy_map.forward(x)
    back, log_det_back = holonomy_map.inverse(y)
    assert wrapped(plaquette_angles(y) - plaquette_angles(x)).abs().max() < 1e-5
    assert log_det.abs().max() > 0.1
    assert wrapped(back - x).abs().max() < rounding
    assert (log_det + log_det_back).abs().max() < 10 * rounding
    single, _ = holonomy_map.forward(x[:1])
    torch.testing.assert_close(single, y[:1], rtol=0, atol=rounding)


@pytest.mark.parametrize("make", THEORIES)
def test_the_determinant_of_holonomies(make):
    holonomy_map = HolonomyMap(make((3, 4)))
    for one in SectorLinks((3, 4), 1.0).double().sample(6, seeded(2)).split(1):
        jacobian = torch.autograd.functional.jacobian(lambda z: holonomy_map.forward(z)[0], one)
        exact = torch.linalg.slogdet(jacobian.reshape(one.numel(), one.numel())).logabsdet
        torch.testing.assert_close(holonomy_map.forward(one)[1][0].detach(), exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "theory",
    [
        _Waves((4, 4)),
        Schwinger((4, 4), 1.0, 0.25),
        Schwinger((8, 8), 2.0, 0.276),
        Schwinger((8, 4), 1.0, 0.2),
        Schwinger((4, 4), 1.0, (0.25, 0.2, 0.2)),
        Schwinger((4, 5), 1.0, 0.25, boundary="periodic"),
        2.0 * Schwinger((4, 4), 1.0, 0.2),
    ],
)
def test_holonomies_are_those_of_the_theory(theory):
    """log q(h|F) + S depends on F alone, but for the floor, the grid, and fermions that go around often."""
    holonomy_map = HolonomyMap(theory, grid=96)
    x = SectorLinks(theory.lattice, 2.5).double().sample(50, seeded(3))
    offsets, actions = [], []
    for shift in (torch.zeros(50, 2), 6 * torch.rand(50, 2, generator=seeded(4)), torch.full((50, 2), 2.0)):
        turned = x.clone()
        turned[:, 0, -1] += shift[:, 0, None]
        turned[:, 1, :, 0] += shift[:, 1, None]
        y, log_det = holonomy_map.forward(turned)
        actions.append(theory(y))
        offsets.append(actions[-1] - log_det)
    offsets = torch.stack(offsets)
    spread = (offsets - offsets.mean(0)).abs()
    assert torch.stack(actions).std(0).median() > 0.2
    assert spread.median() < 0.02
    assert spread.quantile(0.95) < 0.1


def test_holonomies_of_pure_gauge_theory_stay():
    x = SectorLinks((4, 6), 1.0).double().sample(5, seeded(3))
    y, log_det = HolonomyMap(U1Gauge((4, 6), 1.0)).forward(x)
    torch.testing.assert_close(wrapped(y - x), torch.zeros_like(x), atol=1e-12, rtol=0)
    assert log_det.abs().max() < 1e-12


def test_a_theory_of_negative_weight_has_no_density_of_holonomies():
    """exp(+S) of fermions has poles where det D has zeros."""
    x = SectorLinks((4, 4), 1.0).double().sample(2, seeded(3))
    fermions, angles = WilsonFermions((4, 4), 0.2), torch.zeros(1, dtype=x.dtype)
    assert (-1.0 * fermions).holonomy_density(x, angles) is None
    assert (U1Gauge((4, 4), 1.0) + -1.0 * fermions).holonomy_density(x, angles) is None


def test_holonomies_have_the_symmetries_of_the_lattice():
    """On a grid that translations map to itself, for at charge Q they turn h by 2πQ/L."""
    holonomy_map = HolonomyMap(Schwinger((5, 4), 1.0, 0.25), grid=60)
    x = SectorLinks((5, 4), 1.0).double().sample(100, seeded(5))
    time, space = x.unbind(1)
    reflected = torch.stack((-time.flip(1), space.flip(1).roll(1, 1)), 1)
    assert wrapped(wrapped(plaquette_angles(reflected)).flip(1) + plaquette_angles(x)).abs().max() < 1e-12
    expected = holonomy_map.inverse(x)[1]
    for other in (reflected, -x):
        torch.testing.assert_close(holonomy_map.inverse(other)[1], expected, rtol=0, atol=1e-8)
    # here the points between which the determinant is interpolated do not map to themselves
    translated = holonomy_map.inverse(x.roll((2, 1), (2, 3)))[1]
    assert (translated - expected).abs().median() < 1e-3


def test_a_theory_that_knows_no_holonomies_is_told():
    @dataclass(frozen=True)
    class Silent(LinkTheory):
        def __call__(self, x):
            return x.flatten(1).sum(1)

    with pytest.raises(ValueError, match="expected a theory with `holonomy_density`, got Silent"):
        HolonomyMap(Silent((4, 4))).forward(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match="expected the action of the theory for exact holonomies"):
        continuous_gauge_flow((4, 4), prior_beta=1.0)


def test_the_whole_flow_is_normalised():
    """⟨q/p⟩ over exact draws of pure gauge theory, with every parameter away from its start: five sigma."""
    n, lattice = 6000, (4, 4)
    flow = perturbed(
        continuous_gauge_flow(
            lattice, action=Schwinger(lattice, 1.0, 0.25), prior_beta=1.0, charge_terms=3, harmonics=3
        ),
        0.03,
    )
    quenched = QuenchedLinks(lattice, 1.0).double()
    x = quenched.sample(n, seeded(6))
    with torch.no_grad():
        ratio = (flow.log_prob(x) - quenched.log_prob(x)).exp()
    assert ratio.std() > 0.1
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(n)


@pytest.mark.parametrize("name", ["gauge", "z2"])
@pytest.mark.parametrize("lattice", [(4, 4), (3, 5)])
def test_the_whole_flow_is_symmetric(name, lattice):
    flow = perturbed(
        continuous_gauge_flow(lattice, action=Schwinger(lattice, 1.0, 0.25), prior_beta=1.0), 0.03
    )
    x, log_q = flow.sample(20, seeded(7))
    with torch.no_grad():
        again = flow.log_prob(x)
        turned = flow.log_prob(LINKS.symmetries[name](x, seeded(8)))
    torch.testing.assert_close(again, log_q.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(turned, again, rtol=0, atol=1e-9)
    assert name in flow.symmetries


def test_a_prior_that_is_trained_is_trained():
    """`sample_with_score` differentiates log r at fixed draws, and the path through the map alone."""
    flow = perturbed(continuous_gauge_flow((4, 4), action=Schwinger((4, 4), 1.0, 0.25), prior_beta=1.0), 0.03)
    drawn = flow.sample_with_score(10, seeded(9))
    flow.zero_grad()
    drawn.log_prior.sum().backward()
    assert flow.prior.weights.grad.abs().sum() > 0
    flow.zero_grad()
    (drawn.x.sin() * drawn.score).sum().backward()
    assert flow.prior.weights.grad is None or flow.prior.weights.grad.abs().sum() == 0
    assert all(p.grad.abs().sum() > 0 for p in flow.bijection.bijections[0].parameters())
    leaf = drawn.x.detach().requires_grad_()
    (score,) = torch.autograd.grad(flow.log_prob(leaf).sum(), leaf)
    torch.testing.assert_close(drawn.score, score, rtol=1e-3, atol=1e-3)
