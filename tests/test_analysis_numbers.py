"""Formulas of the analysis at numbers for which they can be written down."""

import math
import warnings

import numpy as np
import pytest

from latflow.analysis import collapse, crossings, entropy, fluctuations, measure, mutual_information, pooled
from latflow.analysis.averaging import Fit, told
from latflow.analysis.fluctuations import Fluctuating
from latflow.analysis.scaling import Curve
from latflow.errors import UnreliableErrorWarning
from latflow.measurement import Measurement
from latflow.theories import Ising


def test_weighted_errors_of_few_draws():
    """Σ (w/w̄)² (O − ⟨O⟩)²/(N(N − 1)): with w = 1, 3 and O = 0, 4 the average is 3, and w/w̄ = ½, 3/2."""
    found = measure([0.0, 4.0], np.log([1.0, 3.0]))
    assert found.value == pytest.approx(3.0)
    assert found.error == pytest.approx(math.sqrt((0.5 * 3) ** 2 + (1.5 * 1) ** 2) / math.sqrt(2))


def test_fits_count_by_their_criterion():
    """p ∝ exp(−½ (χ² + 2 parameters + 2 points left out)): a difference of 2 counts as a factor e."""

    def fit(value: float, chi_squared: float, parameters: int, left_out: int) -> Fit:
        return Fit(chi_squared, 1, parameters, left_out, (Measurement(value, 0.0),))

    for other in (fit(1.0, 4.0, 1, 1), fit(1.0, 2.0, 2, 1), fit(1.0, 2.0, 1, 2)):
        _, (found,) = told([fit(0.0, 2.0, 1, 1), other])
        assert found.value == pytest.approx(1 / (1 + math.e))
    # those that tell nothing have less than half of all weight here, and more there
    silent = Fit(2.0, 1, 1, 1)
    assert told([fit(1.0, 2.0, 1, 1), silent])[1] != []
    assert told([fit(1.0, 2.2, 1, 1), silent])[1] == []


def test_a_collapse_has_the_errors_of_its_fit():
    """U = a + s (g − g_c) L^y of five points: a line is the only fit, its errors are those of (JᵀJ)⁻¹ σ².

    Without noise χ² is 0, and with a little of it what the four parameters leave.
    """
    size = np.array([4.0, 4.0, 4.0, 8.0, 8.0])
    g = np.array([0.4, 0.5, 0.6, 0.42, 0.58])
    sigma, critical, y, a, s = 0.01, 0.5, 0.5, 1.0, 4.0
    x = (g - critical) * size**y
    jacobian = np.stack([-s * size**y, s * x * np.log(size), np.ones(5), x], 1)
    # the fit measures L in units of √(4 · 8), which changes s, and so correlates it with y: not the others
    error = sigma * np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))

    def found(noise: np.ndarray):
        value = a + s * x + noise
        parts = [
            Curve(one, g[size == one], value[size == one], np.full((size == one).sum(), sigma))
            for one in (4.0, 8.0)
        ]
        return collapse(parts)

    clean = found(np.zeros(5))
    assert clean.coupling is not None
    assert clean.nu is not None
    assert clean.value is not None
    numbers = [(one.value, one.error) for one in (clean.coupling, clean.nu, clean.value)]
    for (value, of_it), (expected, of_expected) in zip(
        numbers, [(critical, error[0]), (1 / y, error[1] / y**2), (a, error[2])], strict=True
    ):
        assert value == pytest.approx(expected)
        assert of_it == pytest.approx(of_expected, rel=1e-4)
    assert clean.chi_squared == pytest.approx(0.0, abs=1e-9)
    noise = 1e-4 * np.array([1.0, -2.0, 0.5, 1.5, -1.0])
    left = noise - jacobian @ np.linalg.lstsq(jacobian, noise, rcond=None)[0]
    assert found(noise).chi_squared == pytest.approx(left @ left / sigma**2, rel=1e-2)


def test_the_error_of_an_entropy_knows_log_z():
    """Of r − 1 + r (S − ⟨S⟩): with S = −log w the two vary against each other."""
    weight = np.array([1.0, 2.0, 4.0, 5.0])
    action = -np.log(weight)
    ratio = weight / weight.mean()
    mean = (ratio * action).mean()
    expected = np.std(ratio - 1 + ratio * (action - mean), ddof=1) / 2
    found = entropy(np.log(weight), action)
    assert found.value == pytest.approx(math.log(3.0) + mean)
    assert found.error == pytest.approx(expected)


def test_fluctuations_are_those_of_what_they_belong_to():
    """Their norm over N is the error, and each is the derivative of the result by the weight of a draw."""
    rng = np.random.default_rng(2)
    log_weight, action = rng.standard_normal((30, 1)), rng.standard_normal((30, 1))
    observables = [one for one in Ising((2, 2), 0.3).observables if one.name in OF_WEIGHTS]
    assert len(observables) == len(OF_WEIGHTS)
    found = fluctuations({"action": action}, observables, log_weight)
    ratio = np.exp(log_weight) / np.exp(log_weight).mean()
    expected = {
        "log_z": ratio - 1,
        "free_energy_density": (1 - ratio) / 4,
        "entropy": ratio - 1 + ratio * (action - np.mean(ratio * action)),
    }
    for name, row in found.items():
        assert isinstance(row, Fluctuating)
        np.testing.assert_allclose(row.fluctuation, expected[name])
        assert row.error == pytest.approx(row.fluctuation.std(ddof=1) / math.sqrt(30))


OF_WEIGHTS = ("log_z", "free_energy_density", "entropy")


def test_a_bracket_of_the_information_is_half_of_its_ends():
    """Inner weights (e², 1) of m = 2: the ends are log((e² + 1)/2) and 0, and δ half of what lies between.

    All draws are alike, so that δ² of each part is all of the error.
    """
    inner, n = np.tile([2.0, 0.0], (5, 1)), 5
    found = mutual_information(np.zeros(n), np.zeros(n), inner, inner)
    high = math.log((math.exp(2.0) + 1) / 2)
    delta = high / 2
    assert delta < 1
    assert found.error == pytest.approx(math.sqrt(2) * delta**2)
    assert found.value == pytest.approx(-2 * (2 * high + 0.0) / 3)


def test_a_tail_makes_no_error_smaller():
    """With τ_exp far below the window the bounded sum alone is often the smaller one."""
    rng = np.random.default_rng(3)
    for _ in range(24):
        noise = rng.standard_normal(100)
        assert measure(noise, tau_exp=0.01).error >= measure(noise).error


def test_series_of_fewer_than_fifty_tau_are_told():
    """As many series as there are of 25 to 50 of their own τ, and some that are longer."""
    rng, short, long = np.random.default_rng(4), 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        for held in (2, 4, 6, 8) * 6:
            found = measure(np.repeat(rng.standard_normal(200 // held), held))
            times = (found.n or 0) / (found.tau_int or 1.0)
            assert bool(found.warning) == (times < 50)
            short, long = short + (25 < times < 50), long + (times > 50)
    assert min(short, long) >= 3


def test_draws_of_all_sets_are_pooled_by_the_formula():
    """⟨O⟩_g = Σ W O/Σ W over all draws, W = w_g r_j, r_j = (w_j/Z_j)/Σ_k (w_k/Z_k), w = exp(−S)/q_j."""
    rng = np.random.default_rng(5)
    log_weight, values = rng.standard_normal((2, 2, 4)), rng.standard_normal((1, 2, 4))
    w = np.exp(log_weight)  # (couplings, sets, n)
    z = np.array([w[0, 0].mean(), w[1, 1].mean()])
    share = np.stack([w[j, j] / z[j] / (w[0, j] / z[0] + w[1, j] / z[1]) for j in range(2)])
    for number, found in enumerate(pooled(log_weight, values, [0, 1], lambda mean: mean)):
        weight = w[number] * share
        expected = (weight * values[0]).sum() / weight.sum()
        assert found.value == pytest.approx(expected)
        influence = weight * (values[0] - expected) / weight.sum()
        centred = influence - influence.mean(1, keepdims=True)
        assert found.measurement.error == pytest.approx(math.sqrt(4 / 3 * (centred**2).sum()))


def test_two_lines_cross_with_the_errors_of_their_points():
    """Through two points each: place and value as functions of all four, differentiated one by one."""
    x = np.array([0.0, 1.0])
    points, errors = np.array([[0.0, 3.0], [1.0, 2.0]]), np.array([[0.01, 0.02], [0.03, 0.015]])

    def crossing(y: np.ndarray) -> np.ndarray:
        (a, b), (c, d) = y
        place = (c - a) / ((b - a) - (d - c))
        return np.array([place, a + (b - a) * place])

    (found,) = crossings([Curve(4.0, x, points[0], errors[0]), Curve(8.0, x, points[1], errors[1])])
    moves = np.zeros(2)
    for at in np.ndindex(2, 2):
        step = np.zeros((2, 2))
        step[at] = 1e-6
        moves += ((crossing(points + step) - crossing(points - step)) / 2e-6 * errors[at]) ** 2
    assert found.coupling is not None
    assert found.value is not None
    assert [found.coupling.value, found.value.value] == pytest.approx(crossing(points).tolist())
    assert [found.coupling.error, found.value.error] == pytest.approx(np.sqrt(moves).tolist(), rel=1e-5)
