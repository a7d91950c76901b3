"""U(1) gauge theory in two dimensions: action, observables, exact solution, and HMC that meets it."""

import cmath
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from latflow import exact, observables
from latflow.lattice import wrapped
from latflow.samplers import HMC, run
from latflow.theories import Action, Phi4, U1Gauge, gauge_transformed, plaquette_angles

LATTICES = [(2, 2), (2, 5), (3, 3), (4, 6), (5, 3), (7, 4)]
DTYPES = [torch.float32, torch.float64]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hot(
    lattice: tuple[int, int], batch: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    uniform = torch.rand(batch, 2, *lattice, generator=seeded(seed), dtype=dtype)
    return math.pi * (2 * uniform - 1)


def loop_angle(theta: np.ndarray, x0: int, x1: int, r0: int, r1: int) -> float:
    """The angle around a rectangle, walked link by link: ahead in time, in space, and back the same way."""
    _, l0, l1 = theta.shape
    total = 0.0
    for _ in range(r0):
        total += theta[0, x0 % l0, x1 % l1]
        x0 += 1
    for _ in range(r1):
        total += theta[1, x0 % l0, x1 % l1]
        x1 += 1
    for _ in range(r0):
        x0 -= 1
        total -= theta[0, x0 % l0, x1 % l1]
    for _ in range(r1):
        x1 -= 1
        total -= theta[1, x0 % l0, x1 % l1]
    return total


def every_observable(links: Tensor) -> dict[str, Tensor]:
    return {
        "plaquette": observables.plaquette(links),
        "wilson_loop": observables.wilson_loop(links, links.shape[2] - 1, 2),
        "closed_loop": observables.closed_loop(links, [(0, 1), (1, -1), (0, 1), (1, 2), (0, -2), (1, -1)]),
        "polyakov_loop": observables.polyakov_loop(links),
        "topological_charge": observables.topological_charge(links),
    }


# --- action and observables -------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", LATTICES)
def test_action_and_observables_are_those_of_a_loop_over_links(lattice):
    links, (l0, l1), beta = 3 * hot(lattice), lattice, 1.7
    sites = list(np.ndindex(lattice))
    for i, theta in enumerate(links.numpy()):
        angles = [loop_angle(theta, *site, 1, 1) for site in sites]
        cosines = [math.cos(angle) for angle in angles]
        assert U1Gauge(lattice, beta)(links)[i].item() == pytest.approx(-beta * sum(cosines))
        assert observables.plaquette(links)[i].item() == pytest.approx(sum(cosines) / len(sites))
        charge = sum(cmath.phase(cmath.exp(1j * angle)) for angle in angles) / (2 * math.pi)
        assert charge == pytest.approx(round(charge), abs=1e-12)
        assert observables.topological_charge(links)[i].item() == round(charge)
        lines = [cmath.exp(1j * sum(theta[0, t, x] for t in range(l0))) for x in range(l1)]
        assert observables.polyakov_loop(links)[i].item() == pytest.approx(sum(lines) / l1)
        for r0, r1 in {(1, 1), (1, 2), (2, 1), (l0 - 1, 2), (l0, l1)}:
            loops = [math.cos(loop_angle(theta, *site, r0, r1)) for site in sites]
            value = observables.wilson_loop(links, r0, r1)[i].item()
            assert value == pytest.approx(sum(loops) / len(sites)), (r0, r1)


@pytest.mark.parametrize("lattice", LATTICES)
def test_action_and_observables_are_gauge_invariant(lattice):
    links = hot(lattice)
    angles = 10 * torch.randn(3, *lattice, generator=seeded(1), dtype=torch.float64)
    transformed = gauge_transformed(links, angles)
    assert float((transformed - links).abs().mean()) > 1
    action = U1Gauge(lattice, 1.3)
    before, after = every_observable(links), every_observable(transformed)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    torch.testing.assert_close(action(transformed), action(links), rtol=0, atol=1e-12)
    torch.testing.assert_close(action.force(transformed), action.force(links), rtol=0, atol=1e-12)


def test_a_gauge_transformation_at_one_site_turns_its_four_links():
    angles = torch.zeros(1, 3, 4, dtype=torch.float64)
    angles[0, 1, 2] = 0.5
    turned = gauge_transformed(torch.zeros(1, 2, 3, 4, dtype=torch.float64), angles)
    expected = torch.zeros_like(turned)
    expected[0, 0, 1, 2] = expected[0, 1, 1, 2] = 0.5  # the links that leave the site
    expected[0, 0, 0, 2] = expected[0, 1, 1, 1] = -0.5  # those that arrive
    torch.testing.assert_close(turned, expected, rtol=0, atol=0)


@pytest.mark.parametrize("lattice", LATTICES)
def test_force_is_minus_the_gradient(lattice):
    x, direction = hot(lattice), hot(lattice, seed=1)
    for action in (U1Gauge(lattice, 2.3), 0.5 * (U1Gauge(lattice, 2.3) + U1Gauge(lattice, -0.4))):
        force = action.force(x)
        torch.testing.assert_close(force, Action.force(action, x), rtol=1e-12, atol=1e-12)
        slope = (action(x + 1e-5 * direction) - action(x - 1e-5 * direction)) / 2e-5
        torch.testing.assert_close((force * direction).flatten(1).sum(1), -slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("lattice", LATTICES)
def test_charge_conjugation(lattice):
    links, action = hot(lattice), U1Gauge(lattice, 2.0)
    assert action.z2_symmetric
    torch.testing.assert_close(action(-links), action(links))
    torch.testing.assert_close(observables.topological_charge(-links), -observables.topological_charge(links))


@pytest.mark.parametrize("charge", [-3, -1, 0, 2])
def test_the_charge_of_a_constant_flux(charge):
    l0, l1 = 5, 6
    flux = 2 * math.pi * charge / (l0 * l1)
    links = torch.zeros(1, 2, l0, l1, dtype=torch.float64)
    links[0, 1] = flux * torch.arange(l0, dtype=torch.float64)[:, None]
    links[0, 0, -1] = -flux * l0 * torch.arange(l1, dtype=torch.float64)
    torch.testing.assert_close(wrapped(plaquette_angles(links)), torch.full((1, l0, l1), flux).double())
    assert observables.topological_charge(links).item() == charge
    # the loop of r0 × r1 encloses r0 r1 plaquettes
    assert observables.wilson_loop(links, 2, 3).item() == pytest.approx(math.cos(6 * flux))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lattice", [(2, 2), (5, 3), (16, 16)])
def test_dtype_is_kept_and_charges_are_whole(lattice, dtype):
    links, action = 5 * hot(lattice, 64, dtype=dtype), U1Gauge(lattice, 1.5)
    record = observables.recorded(action)(links)
    names = {"action", "plaquette", "topological_charge", "sine_charge", "polyakov"}
    assert set(record) == (names if lattice == (2, 2) else names | {"wilson_loops"})
    loops = (2, 1) if lattice == (5, 3) else (2, 3)
    for name, values in record.items():
        assert values.dtype == (torch.float64 if name == "action" else dtype), name
        assert values.shape == ((64, *loops) if name == "wilson_loops" else (64,)), name
    assert action.force(links).dtype == dtype
    assert observables.wilson_loop(links, 2, 2).dtype == dtype
    assert observables.polyakov_loop(links).dtype.to_real() == dtype
    # the rounding takes away rounding errors alone
    unrounded = wrapped(plaquette_angles(links)).flatten(1).sum(1) / (2 * math.pi)
    torch.testing.assert_close(record["topological_charge"], unrounded, rtol=0, atol=1e-4)
    assert torch.equal(record["polyakov"], observables.polyakov_loop(links).real)


@pytest.mark.parametrize("dtype", DTYPES)
def test_wrapped_angles_lie_above_minus_pi_and_up_to_pi(dtype):
    pi = torch.tensor(math.pi, dtype=dtype)
    ends = [sign * torch.nextafter(pi, pi + way) for sign in (-1, 1) for way in (-1, 1)]
    random = 30 * torch.randn(10_000, generator=seeded(2), dtype=dtype)
    angles = torch.cat((torch.stack([*ends, pi, -pi, 3 * pi, -3 * pi, 0 * pi]), random))
    turned = wrapped(angles)
    assert turned.dtype == dtype
    assert float(turned.min()) > -float(pi)
    assert float(turned.max()) <= float(pi)
    atol = 1e-4 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(
        torch.polar(torch.ones_like(turned), turned), torch.exp(1j * angles), rtol=0, atol=atol
    )
    inside = turned[turned.abs() < 3.14]
    assert torch.equal(wrapped(inside), inside)
    assert wrapped(-pi) == pi


@pytest.mark.parametrize("lattice", [(4,), (1, 4), (4, 1), (3, 3, 3), (4, 0)])
def test_lattices_that_are_not_planes_are_refused(lattice):
    with pytest.raises(ValueError, match="expected a lattice"):
        U1Gauge(lattice, beta=1.0)
    with pytest.raises(ValueError, match="expected a lattice"):
        exact.u1_log_z(lattice, beta=1.0)


def test_wrong_fields_and_loops_are_refused():
    links = hot((4, 6))
    with pytest.raises(
        ValueError, match=r"expected a links field .*\(batch, 2, 6, 4\), got .*\(\d+, 2, 4, 6\)"
    ):
        U1Gauge((6, 4), beta=1.0)(links)
    with pytest.raises(ValueError, match="expected two actions of one field"):
        U1Gauge((4, 6), beta=1.0) + Phi4((4, 6), m2=1.0, lam=0.0)
    for r0, r1 in ((0, 1), (1, 0), (5, 1), (1, 7)):
        with pytest.raises(ValueError, match="expected a loop of 1 to 4 times 1 to 6"):
            observables.wilson_loop(links, r0, r1)


# --- the exact solution -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "beta", "log_z", "plaquette", "charge_squared"),
    [
        (8, 1.0, "15.098518944", "0.446389965897", "2.60071911"),
        (8, 2.0, "52.735586655", "0.697774658011", "1.23929891"),
        (8, 5.0, "211.50110301", "0.893421249755", "0.360717480"),
        (16, 2.0, "210.94234662", "0.697774657964", "4.95719568"),
        (16, 7.0, "1312.6381863", "0.925532210854", "1.00641416"),
    ],
)
def test_exact_results_to_all_digits_of_the_reference(length, beta, log_z, plaquette, charge_squared):
    lattice = (length, length)
    for value, reference in (
        (exact.u1_log_z(lattice, beta), log_z),
        (exact.u1_plaquette(lattice, beta), plaquette),
        (exact.u1_charge_squared(lattice, beta), charge_squared),
    ):
        digits = len(reference.split(".")[1])
        assert f"{value:.{digits}f}" == reference


def test_exact_log_z_and_charge_distribution_of_the_reference():
    assert exact.u1_log_z((2, 2), 1.0) == pytest.approx(1.02031916682, abs=1e-11)
    distribution = exact.u1_charge_distribution((8, 8), 2.0, range(4))
    np.testing.assert_allclose(distribution, [0.358991, 0.239219, 0.071116, 0.009559], rtol=0, atol=5e-7)


@pytest.mark.parametrize(
    ("lattice", "beta"),
    [
        ((2, 2), 0.0),
        ((2, 2), 1.0),
        ((2, 3), 0.5),
        ((3, 3), 1.0),
        ((8, 8), 2.0),
        ((16, 32), 7.0),
        ((64, 64), 10.0),
    ],
)
def test_the_charge_distribution_is_normalised_and_holds_the_mean_of_q_squared(lattice, beta):
    most = min(math.prod(lattice) // 2 + 1, 40)
    charges = np.arange(-most, most + 1)
    distribution = exact.u1_charge_distribution(lattice, beta, charges)
    assert distribution.shape == charges.shape
    assert (distribution >= 0).all()
    np.testing.assert_allclose(distribution, distribution[::-1], rtol=0, atol=1e-14)
    assert distribution.sum() == pytest.approx(1, abs=1e-10)
    squared = float((charges**2 * distribution).sum())
    assert squared == pytest.approx(exact.u1_charge_squared(lattice, beta), abs=1e-9)


def test_the_charge_distribution_at_beta_zero_counts_volumes_of_a_cube():
    # P(Q) of four uniform plaquettes: the density of Irwin and Hall at 0, ±1, ±2
    distribution = exact.u1_charge_distribution((2, 2), 0.0, [[0, 1], [2, 10**9]])
    np.testing.assert_allclose(distribution, [[2 / 3, 1 / 6], [0, 0]], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("lattice", "beta"), [((2, 2), 0.7), ((8, 8), 3.0), ((128, 256), 9.0)])
def test_the_plaquette_is_the_slope_of_the_free_energy(lattice, beta):
    step, sites = 1e-4, math.prod(lattice)
    slope = (exact.u1_log_z(lattice, beta + step) - exact.u1_log_z(lattice, beta - step)) / (2 * step * sites)
    assert exact.u1_plaquette(lattice, beta) == pytest.approx(slope, abs=1e-7)


def test_strong_coupling_and_large_volumes():
    assert exact.u1_log_z((4, 6), 0.0) == 0
    assert exact.u1_plaquette((4, 6), 0.0) == 0
    assert exact.u1_charge_squared((4, 6), 0.0) == pytest.approx(24 / 12)
    # only n = 0 counts in a large volume: ⟨Q²⟩/V is the variance of a lone plaquette over 4π²
    charge_squared = exact.u1_charge_squared((256, 256), 2.0)
    assert charge_squared == pytest.approx(256 * exact.u1_charge_squared((16, 16), 2.0), rel=1e-7)
    assert exact.u1_charge_distribution((256, 256), 2.0, 0) == pytest.approx(
        1 / math.sqrt(2 * math.pi * charge_squared), rel=1e-3
    )


@pytest.mark.parametrize("beta", [-1.0, math.nan, math.inf])
def test_the_exact_solution_refuses_couplings_outside_its_domain(beta):
    with pytest.raises(ValueError, match="expected a finite beta"):
        exact.u1_log_z((4, 4), beta)
    with pytest.raises(ValueError, match="expected whole numbers"):
        exact.u1_charge_distribution((4, 4), 1.0, [0.5])


@pytest.mark.parametrize(("lattice", "beta"), [((2, 2), 1.0), ((2, 3), 0.6)])
def test_the_exact_solution_is_the_average_over_uniform_links(lattice, beta):
    # Z_Haar = ⟨exp(−S)⟩ over independent uniform links; ratios of means by the spread of their residuals
    links, sites = hot(lattice, 400_000, seed=3), math.prod(lattice)
    weight = torch.exp(-U1Gauge(lattice, beta)(links))
    z = math.exp(exact.u1_log_z(lattice, beta))
    charge = observables.topological_charge(links)
    for values, expected in (
        (torch.ones_like(weight), 1.0),
        (observables.plaquette(links), exact.u1_plaquette(lattice, beta)),
        (charge**2, exact.u1_charge_squared(lattice, beta)),
        ((charge == 1).double(), float(exact.u1_charge_distribution(lattice, beta, 1))),
        # in the whole plane a loop would fall by (I_1/I_0) per plaquette; its complement counts on a torus
        (observables.wilson_loop(links, 1, 2), _wilson_loop(sites, beta, 2)),
        (observables.wilson_loop(links, 1, 2), exact.u1_wilson_loop(lattice, beta, 2)),
        (observables.sine_charge(links) ** 2, exact.u1_sine_charge_squared(lattice, beta)),
    ):
        draws = values * weight / z
        assert abs(float(draws.mean()) - expected) < 5 * float(draws.std()) / math.sqrt(len(draws))


@pytest.mark.parametrize("lattice", LATTICES)
def test_closed_loops_are_rectangles_and_loops_around_time_and_the_sum_of_what_they_enclose(lattice):
    links = hot(lattice)
    for r0, r1 in ((1, 1), (2, 1), (1, 2)):
        rectangle = observables.closed_loop(links, [(0, r0), (1, r1), (0, -r0), (1, -r1)])
        torch.testing.assert_close(rectangle, observables.wilson_loop(links, r0, r1))
    around = observables.closed_loop(links, [(0, lattice[0])])
    torch.testing.assert_close(around, observables.polyakov_loop(links).real)
    # an L of three plaquettes, and a figure of eight, whose two halves are passed in opposite senses
    p = plaquette_angles(links)
    corner = observables.closed_loop(links, [(0, 2), (1, 1), (0, -1), (1, 1), (0, -1), (1, -2)])
    enclosed = p + p.roll(-1, 1) + p.roll(-1, 2)
    torch.testing.assert_close(corner, enclosed.cos().flatten(1).mean(1))
    there, back = [(0, 1), (1, 1), (0, -1), (1, -1)], [(0, 1), (1, -1), (0, -1), (1, 1)]
    eight = observables.closed_loop(links, there + back)
    difference = p - p.roll(1, 2)
    torch.testing.assert_close(eight, difference.cos().flatten(1).mean(1))


@pytest.mark.parametrize("path", [[(0, 1), (1, 1)], [(2, 1)], [], [(0, 0)]])
def test_paths_that_are_no_loops_are_refused(path):
    with pytest.raises(ValueError, match="expected"):
        observables.closed_loop(hot((4, 6)), path)


def _wilson_loop(sites: int, beta: float, area: int) -> float:
    """Z⁻¹ Σ_n I_n^{V−A} I_{n+1}^A, for a loop that encloses A plaquettes."""
    from scipy.special import iv

    n = np.arange(-30, 31)
    return float(
        np.sum(iv(n, beta) ** (sites - area) * iv(n + 1, beta) ** area) / np.sum(iv(n, beta) ** sites)
    )


@pytest.mark.parametrize(("lattice", "beta"), [((2, 2), 1.0), ((3, 4), 0.7), ((16, 16), 2.0)])
def test_exact_wilson_loops(lattice, beta):
    sites = math.prod(lattice)
    for area in (0, 1, 2, sites):
        found = exact.u1_wilson_loop(lattice, beta, area)
        assert found == pytest.approx(_wilson_loop(sites, beta, area), rel=1e-10)
        # a loop around everything is none, and A plaquettes are enclosed by what encloses the others
        assert found == pytest.approx(exact.u1_wilson_loop(lattice, beta, sites - area), rel=1e-8)
    assert exact.u1_wilson_loop(lattice, beta, 1) == pytest.approx(exact.u1_plaquette(lattice, beta))
    # with θ the plaquette is known by another sum
    turned = exact.u1_wilson_loop(lattice, beta, 1, theta=1.2)
    assert turned == pytest.approx(exact.u1_plaquette(lattice, beta, 1.2), rel=1e-9)
    with pytest.raises(ValueError, match=f"area of 0 to {sites}"):
        exact.u1_wilson_loop(lattice, beta, sites + 1)


@pytest.mark.parametrize("theta", [0.0, 1.2, math.pi])
def test_the_exact_charge_of_sines(theta):
    """4π²⟨Q_s²⟩ = ⟨(Σ sin P)²⟩ is the second derivative of Z by a source h of Σ sin P, over Z."""
    sites, beta, h = 12, 0.9, 1e-3
    nodes, weights = np.polynomial.legendre.leggauss(300)
    p, nu = math.pi * nodes, np.arange(-40, 41) + theta / (2 * math.pi)

    def z(source: float) -> float:
        of_one = np.exp(1j * np.outer(nu, p)) @ (weights * np.exp(beta * np.cos(p) + source * np.sin(p))) / 2
        return float(np.sum(of_one**sites).real)

    second = (z(h) - 2 * z(0.0) + z(-h)) / h**2 / z(0.0)
    found = exact.u1_sine_charge_squared((3, 4), beta, theta)
    assert found == pytest.approx(second / (4 * math.pi**2), rel=1e-4)


def test_in_the_continuum_both_charges_are_one():
    lattice = (16, 16)
    ratio = [
        exact.u1_sine_charge_squared(lattice, b) / exact.u1_charge_squared(lattice, b)
        for b in (5.0, 20.0, 50.0)
    ]
    assert ratio[0] < ratio[1] < ratio[2] < 1
    assert ratio[2] > 0.9


@pytest.mark.parametrize("lattice", [(5, 4), (4, 7)])
def test_loops_at_once_are_those_around_their_links(lattice):
    links = 5 * hot(lattice)
    extents, distances = (1, 3, 4), (2, 3)
    found = observables.wilson_loops(links, extents, distances)
    expected = [[observables.wilson_loop(links, t, r) for r in distances] for t in extents]
    torch.testing.assert_close(found, torch.stack([torch.stack(row, 1) for row in expected], 1))
    sine = torch.sin(plaquette_angles(links)).sum((1, 2)) / (2 * math.pi)
    torch.testing.assert_close(observables.sine_charge(links), sine)
    torch.testing.assert_close(observables.sine_charge(-links), -sine)
    with pytest.raises(ValueError, match="expected loops of 1 to"):
        observables.wilson_loops(links, (1,), (9,))


# --- hybrid Monte Carlo -----------------------------------------------------------------------------


@pytest.mark.parametrize(("lattice", "beta"), [((8, 8), 2.0), ((3, 5), 1.0)])
def test_hmc_meets_the_exact_solution(lattice, beta):
    action = U1Gauge(lattice, beta)
    sampler, start = HMC.of_length(action, 1.0, 8), hot(lattice, 128, seed=4)
    chain = run(sampler, start, 250, observables.recorded(action), seeded(5), thermalisation=50)
    assert chain.state.x.shape == (128, 2, *lattice)
    assert 0.8 < float(chain.series["accepted"].double().mean()) < 1
    charge = chain.series["topological_charge"]
    for series, expected in (
        (chain.series["plaquette"], exact.u1_plaquette(lattice, beta)),
        (charge**2, exact.u1_charge_squared(lattice, beta)),
        ((charge == 0).double(), float(exact.u1_charge_distribution(lattice, beta, 0))),
        (charge, 0.0),
        (chain.series["polyakov"], 0.0),
    ):
        # the spread of the means of independent chains, whatever their autocorrelation
        means = series.mean(0)
        assert abs(float(means.mean()) - expected) < 5 * float(means.std()) / math.sqrt(len(means))
