"""Formulas of the analysis at numbers for which they can be written down."""

import math

import numpy as np
import pytest

from latflow.analysis import collapse, entropy, fluctuations, measure, mutual_information
from latflow.analysis.averaging import Fit, told
from latflow.analysis.fluctuations import Fluctuating
from latflow.analysis.scaling import Curve
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
    """Straight lines U = 1 + 2 (g − 0.5) L with errors of 0.01, without noise: all fits agree, and χ² is 0.

    The errors are those of the linearised fit, as repeated measurements have them.
    """
    couplings, rng = np.linspace(0.4, 0.6, 9), np.random.default_rng(1)

    def lines(noise: float) -> list[Curve]:
        sizes = (4.0, 8.0)
        values = [1 + 2 * (couplings - 0.5) * size for size in sizes]
        moved = [one + noise * rng.standard_normal(9) for one in values]
        return [Curve(size, couplings, one, np.full(9, 0.01)) for size, one in zip(sizes, moved, strict=True)]

    clean = collapse(lines(0.0))
    assert clean.coupling is not None
    assert clean.nu is not None
    assert (clean.coupling.value, clean.nu.value) == (pytest.approx(0.5), pytest.approx(1.0))
    assert clean.chi_squared == pytest.approx(0.0, abs=1e-9)
    several = [collapse(lines(0.01)) for _ in range(24)]
    for name, found in (("coupling", clean.coupling), ("nu", clean.nu)):
        spread = np.std([getattr(one, name).value for one in several], ddof=1)
        # of 24 the spread is known to 15 %; averages over fits of other degrees add a little
        assert found.error == pytest.approx(spread, rel=0.6)
    chi = [one.chi_squared / one.dof for one in several]
    assert np.mean(chi) == pytest.approx(1.0, abs=5 * np.std(chi) / math.sqrt(24) + 0.1)


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
