"""Exact results against reference numbers, against each other, and against brute force."""

import math

import numpy as np
import pytest
import torch

from latflow import exact
from latflow.theories import Phi4
from latflow.theories.phi4.solution import gauss_rule
from latflow.theories.phi4.transfer import Rule, TransferMatrix


def test_free_field_reference_numbers():
    assert exact.free_field_log_z((4, 4), 1.25) == pytest.approx(-3.3600416249, abs=1e-10)
    assert exact.free_field_log_z((8, 8), 1.25) == pytest.approx(-13.5723761395, abs=1e-10)
    assert exact.free_field_phi_squared((8, 8), 1.25) == pytest.approx(0.1169835008, abs=1e-10)


@pytest.mark.parametrize("lattice", [(1,), (5,), (4, 3), (2, 1, 3)])
def test_free_field_is_that_of_the_matrix_of_the_action(lattice):
    m2, n = 0.7, math.prod(lattice)
    action = Phi4(lattice, m2=m2, lam=0.0)
    kernel = -action.force(torch.eye(n, dtype=torch.float64).reshape(n, *lattice)).reshape(n, n).numpy() / 2
    propagator = np.linalg.inv(kernel) / 2
    assert exact.free_field_log_z(lattice, m2) == pytest.approx(
        n / 2 * math.log(math.pi) - np.linalg.slogdet(kernel)[1] / 2
    )
    np.testing.assert_allclose(exact.free_field_propagator(lattice, m2).ravel(), propagator[0], atol=1e-14)
    assert exact.free_field_phi_squared(lattice, m2) == pytest.approx(propagator[0, 0])
    assert exact.free_field_zero_mode(m2) == pytest.approx(propagator.sum() / n)
    slices = propagator[0].reshape(lattice[0], -1).sum(1)[: lattice[0] // 2 + 1]
    np.testing.assert_allclose(exact.free_field_two_point(lattice, m2), slices, atol=1e-14)


def test_free_field_correlator_is_a_cosh():
    energy = 2 * math.asinh(math.sqrt(0.4) / 2)
    expected = np.cosh(energy * (np.arange(5) - 4))
    amplitude = exact.free_field_two_point((8, 5), 0.4) / expected
    np.testing.assert_allclose(amplitude, amplitude[0], rtol=1e-12)


@pytest.mark.parametrize("m2", [0.0, -1.0, math.nan])
def test_free_field_needs_a_mass(m2):
    for function in (exact.free_field_log_z, exact.free_field_phi_squared, exact.free_field_two_point):
        with pytest.raises(ValueError, match="needs m2 > 0"):
            function((4, 4), m2)
    with pytest.raises(ValueError, match="needs m2 > 0"):
        exact.free_field_zero_mode(m2)


def toy_estimates(theta, rate, n, batches, rng):
    """Each gradient estimator of the toy model on `batches` batches of n draws, from their definitions."""
    phi = rng.exponential(1 / theta, (batches, n))
    score = 1 / theta - phi
    signal = math.log(theta / rate) - (theta - rate) * phi
    path = phi * (theta - rate) / theta  # −∂_φ s · dφ/dθ with dφ/dθ = −φ/θ, ∂_φ s = −(θ − λ)
    return {
        "g1": (score * signal).mean(1),
        "g2": (score * (signal - signal.mean(1, keepdims=True))).mean(1),
        "g3": (path + score).mean(1),
        "g_path": path.mean(1),
    }


@pytest.mark.parametrize(("theta", "rate", "n"), [(0.5, 1.5, 3), (1.5, 1.5, 5), (2.0, 0.7, 10)])
def test_toy_formulas_are_those_of_brute_force(theta, rate, n):
    # Each pull is a standard normal one up to 1/√batches: five sigma.
    batches = 200_000
    variance = exact.toy_variance(theta, rate, n)
    for name, draws in toy_estimates(theta, rate, n, batches, np.random.default_rng(5)).items():
        mean = exact.toy_gradient(theta, rate) * ((n - 1) / n if name == "g2" else 1)
        expected = getattr(variance, name)
        assert abs(draws.mean() - mean) <= 5 * math.sqrt(expected / batches) + 1e-12, name
        squares = (draws - mean) ** 2
        assert abs(squares.mean() - expected) <= 5 * squares.std() / math.sqrt(batches) + 1e-12, name


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_toy_variance_of_g2_is_that_of_a_sample_variance(n):
    # g2 = (θ−λ)(n−1)/n s², var s² = μ4/n − σ⁴(n−3)/(n(n−1)), and μ4 = 9σ⁴ for an exponential distribution.
    theta, rate = 1.3, 0.4
    of_sample_variance = 9 / n - (n - 3) / (n * (n - 1)) if n > 1 else 0.0
    expected = ((theta - rate) * (n - 1) / n) ** 2 / theta**4 * of_sample_variance
    assert exact.toy_variance(theta, rate, n).g2 == pytest.approx(expected)


def test_toy_divergence_has_the_toy_gradient():
    step = 1e-6
    slope = (exact.toy_kl(0.8 + step, 1.5) - exact.toy_kl(0.8 - step, 1.5)) / (2 * step)
    assert slope == pytest.approx(exact.toy_gradient(0.8, 1.5), rel=1e-8)
    assert exact.toy_kl(1.5, 1.5) == 0
    phi = np.random.default_rng(1).exponential(1 / 0.8, 100_000)
    signal = math.log(0.8 / 1.5) - (0.8 - 1.5) * phi
    assert abs(signal.mean() - exact.toy_kl(0.8, 1.5)) < 5 * signal.std() / math.sqrt(phi.size)


@pytest.mark.parametrize(("theta", "rate", "n"), [(0.0, 1.0, 1), (1.0, -1.0, 1), (1.0, 1.0, 0)])
def test_toy_refuses_what_is_no_distribution(theta, rate, n):
    with pytest.raises(ValueError, match="expected"):
        exact.toy_variance(theta, rate, n)


def test_phi4_reference_number():
    log_z, error = exact.phi4_log_z((4, 4), m2=-4.0, lam=8.0)
    assert log_z == pytest.approx(2.405139, abs=1e-6)
    assert error < 1e-6


@pytest.mark.slow
def test_phi4_reference_numbers_at_eight_by_eight():
    log_z, error = exact.phi4_log_z((8, 8), m2=-4.0, lam=8.0, tolerance=1e-5)
    assert error < 1e-5
    assert abs(log_z - 9.29135) < 5e-5  # the reference has an error of 1e-5
    phi_squared, _ = exact.phi4_phi_squared((8, 8), m2=-4.0, lam=8.0, tolerance=1e-5)
    assert abs(phi_squared - 0.14345) < 5 * 4e-5
    log_z, error = exact.phi4_log_z((8, 8), m2=1.25, lam=0.0, tolerance=1e-5)
    assert abs(log_z - exact.free_field_log_z((8, 8), 1.25)) < error < 1e-5


@pytest.mark.parametrize(
    "lattice",
    [(1,), (2,), (9,), (3, 5), (4, 2), (1, 6)]
    + [pytest.param(one, marks=pytest.mark.slow) for one in [(5, 6), (2, 2, 3)]],
)
@pytest.mark.parametrize("m2", [0.6, 3.0])
def test_phi4_without_coupling_is_the_free_field(lattice, m2):
    log_z, error = exact.phi4_log_z(lattice, m2, lam=0.0, tolerance=1e-5, max_states=300_000)
    assert abs(log_z - exact.free_field_log_z(lattice, m2)) < error < 1e-3
    phi_squared, error = exact.phi4_phi_squared(lattice, m2, lam=0.0, tolerance=1e-5, max_states=300_000)
    assert abs(phi_squared - exact.free_field_phi_squared(lattice, m2)) < error < 1e-3


@pytest.mark.parametrize(("m2", "lam"), [(-4.0, 8.0), (-3.0, 0.8), (0.5, 0.1)])
def test_phi4_on_few_sites_is_the_integral(m2, lam):
    grid = torch.linspace(-4, 4, 161, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid, grid)
    step = (grid[1] - grid[0]).item()
    log_density = -Phi4((3,), m2=m2, lam=lam)(x) + 3 * math.log(step)
    log_z = log_density.logsumexp(0).item()
    phi_squared = ((log_density - log_z).exp() * x.square().mean(1)).sum().item()
    for value, expected in (
        (exact.phi4_log_z((3,), m2, lam), log_z),
        (exact.phi4_phi_squared((3,), m2, lam), phi_squared),
    ):
        assert abs(value.value - expected) < max(4 * value.error, 1e-9)
        assert value.error < 1e-5


@pytest.mark.parametrize(
    ("m2", "lam"), [(-3.0, 0.8), *(pytest.param(-4.0, lam, marks=pytest.mark.slow) for lam in (4 / 3, 8.0))]
)
def test_phi4_in_the_broken_phase_is_the_sum_over_a_fine_grid(m2, lam):
    # Trapezoidal sums of analytic functions that vanish at the ends converge exponentially.
    edge = math.sqrt(-m2 / (2 * lam) + math.sqrt(25 / lam))  # where exp(min V − V) = exp(−25)
    grid, depth = np.linspace(-edge, edge, 36), m2**2 / (4 * lam)
    weights = (grid[1] - grid[0]) * np.exp(-depth - m2 * grid**2 - lam * grid**4)
    fine = TransferMatrix((2,), Rule(grid, weights)).trace_of_power(5)
    log_z, error = exact.phi4_log_z((2, 5), m2, lam, tolerance=1e-7)
    assert abs(log_z - (fine.log_trace + 10 * depth)) < 4 * error < 1e-5
    phi_squared, error = exact.phi4_phi_squared((2, 5), m2, lam, tolerance=1e-7)
    assert abs(phi_squared - fine.phi_squared) < 4 * error < 1e-5


def test_phi4_phi_squared_is_the_slope_of_log_z():
    step, lattice = 1e-3, (3, 4)
    up, down = (exact.phi4_log_z(lattice, m2, 8.0, tolerance=1e-8).value for m2 in (-4 + step, -4 - step))
    phi_squared = exact.phi4_phi_squared(lattice, -4.0, 8.0, tolerance=1e-8).value
    assert -(up - down) / (2 * step) / 12 == pytest.approx(phi_squared, abs=1e-6)


def test_transfer_matrix_without_storage_is_the_stored_one(monkeypatch):
    matrix = TransferMatrix((4,), gauss_rule(2, -4.0, 8.0, 5))
    stored = matrix.trace_of_power(6)
    monkeypatch.setattr("latflow.theories.phi4.transfer._DENSE_STATES", 100)
    krylov = matrix.trace_of_power(6, tolerance=1e-10)
    assert krylov.tail < 1e-10
    assert krylov.log_trace == pytest.approx(stored.log_trace, abs=2e-10)
    assert krylov.phi_squared == pytest.approx(stored.phi_squared, abs=1e-8)


def test_tail_of_the_spectrum_covers_what_is_missing(monkeypatch):
    matrix = TransferMatrix((4,), gauss_rule(2, -4.0, 8.0, 5))
    stored = matrix.trace_of_power(4).log_trace
    monkeypatch.setattr("latflow.theories.phi4.transfer._DENSE_STATES", 100)
    for basis in (16, 24, 32, 48):
        monkeypatch.setattr("latflow.theories.phi4.transfer._BASIS_SIZE", basis)
        trace = matrix.trace_of_power(4)
        assert 0 < stored - trace.log_trace < trace.tail, basis


def test_phi4_refuses_what_it_cannot_solve():
    with pytest.raises(ValueError, match="lam > 0"):
        exact.phi4_log_z((4,), m2=-1.0, lam=0.0)
    with pytest.raises(ValueError, match="slices of 16 sites"):
        exact.phi4_log_z((16, 16), m2=-4.0, lam=8.0)
