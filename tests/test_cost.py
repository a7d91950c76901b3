"""The arithmetic of costs: closed forms, and predictions whose errors cover."""

import math

import numpy as np
import pytest

from latflow.analysis import Measurement, break_even, least_ess, measure, needed, price, product, total


def test_a_pilot_tells_what_another_error_needs():
    """σ² = N e²/(2τ) = 600 · 0.01/6 = 1: n = σ²/(ε μ)² = 2500 and N = 2τ n = 15 000."""
    pilot = Measurement(2.0, 0.1, tau_int=3.0, tau_int_error=0.3, n=600)
    need = needed(pilot, [Measurement(2.0, 0.2, tau_int=3.0, n=150)] * 4, 0.01)
    assert need.independent.value == pytest.approx(2500)
    assert need.numbers.value == pytest.approx(15_000)
    # parts that agree have no spread: what is left is 2 δμ/μ = 0.1, and δτ/τ = 0.1 of the chain
    assert need.independent.error == pytest.approx(250)
    assert need.numbers.error == pytest.approx(15_000 * math.hypot(0.1, 0.1))
    absolute = needed(pilot, [Measurement(2.0, 0.2, tau_int=3.0, n=150)] * 4, 0.02, relative=False)
    assert absolute.numbers.value == pytest.approx(15_000)
    assert absolute.numbers.error == pytest.approx(1500)


def test_independent_draws_have_no_autocorrelation():
    pilot = Measurement(1.0, 0.05, n=400)
    groups = [Measurement(1.0, 0.1 * f, n=100) for f in (0.9, 1.1, 0.95, 1.05)]
    need = needed(pilot, groups, 0.01)
    assert need.numbers.value == need.independent.value == pytest.approx(400 * 25)


@pytest.mark.parametrize("error", [0.0, -1.0, math.nan, math.inf])
def test_an_error_is_a_positive_number(error):
    with pytest.raises(ValueError, match="expected a positive error"):
        needed(Measurement(1.0, 0.1, n=10), [Measurement(1.0, 0.1, n=5)] * 2, error)


def test_a_pilot_without_an_error_tells_nothing():
    with pytest.raises(ValueError, match="expected a pilot with an error"):
        needed(Measurement(1.0, math.nan, n=10), [Measurement(1.0, 0.1, n=5)] * 2, 0.1)


def test_costs_are_sums_and_products():
    seconds = Measurement(0.01, 0.001)
    assert product(Measurement(100.0, 5.0), seconds).error == pytest.approx(math.hypot(0.05, 0.1))
    assert total(Measurement(1.0, 3.0), Measurement(2.0, 4.0)) == Measurement(3.0, 5.0)
    assert price(Measurement(3.0, 0.3), 0.01) == Measurement(0.06, 0.006)


def test_a_training_pays_or_never_does():
    assert break_even(60.0, 0.01, 0.03) == pytest.approx(3000)
    assert break_even(60.0, 0.03, 0.03) == math.inf
    # at the least ESS both ways cost the same: 60 + n s/ESS = n c
    ess = least_ess(60.0, 0.01, 0.03, 6000.0)
    assert 60 + 6000 * 0.01 / ess == pytest.approx(6000 * 0.03)
    assert least_ess(200.0, 0.01, 0.03, 6000.0) == math.inf


@pytest.mark.parametrize("a", [0.0, 0.8])
def test_predictions_of_autoregressive_chains_cover(a):
    """x′ = a x + ξ about μ: τ = ½ (1 + a)/(1 − a), σ² = 1/(1 − a²), N = 2τ σ²/(ε μ)².

    The pull of the prediction is about a standard normal number: of 40 its mean square is 1 with an error of
    √(2/40) = 0.22, its mean 0 with one of 0.16; the window of the Γ-method leaves a few per cent of τ out.
    """
    chains, steps, mean, wished = 16, 400, 5.0, 0.002
    tau, variance = 0.5 * (1 + a) / (1 - a), 1 / (1 - a * a)
    truth = 2 * tau * variance / (wished * mean) ** 2
    random = np.random.default_rng(5)
    pulls = []
    for _ in range(40):
        x = np.empty((steps, chains))
        x[0] = random.normal(size=chains) * math.sqrt(variance)
        for t in range(1, steps):
            x[t] = a * x[t - 1] + random.normal(size=chains)
        series = x + mean
        groups = [measure(series[:, part]) for part in np.array_split(np.arange(chains), 8)]
        numbers = needed(measure(series), groups, wished).numbers
        assert numbers.error < 0.3 * numbers.value
        pulls.append((numbers.value - truth) / numbers.error)
    assert abs(np.mean(pulls)) < 5 * 0.16
    assert 0.3 < np.mean(np.square(pulls)) < 1 + 5 * 0.22


def test_a_prediction_holds_for_the_longer_chain():
    """A chain of the length that a pilot asks for has the wished error, within that of its own analysis."""
    random, a, chains = np.random.default_rng(6), 0.7, 16

    def chain(steps):
        x = np.empty((steps, chains))
        x[0] = random.normal(size=chains) / math.sqrt(1 - a * a)
        for t in range(1, steps):
            x[t] = a * x[t - 1] + random.normal(size=chains)
        return x + 5

    pilot = chain(400)
    parts = np.array_split(np.arange(chains), 8)
    need = needed(measure(pilot), [measure(pilot[:, part]) for part in parts], 0.002).numbers
    error = measure(chain(math.ceil(need.value / chains)))
    expected, spread = 0.002 * 5, 0.5 * need.error / need.value
    assert abs(error.error / expected - 1) < 5 * math.hypot(spread, 0.5 * error.tau_int_error / error.tau_int)
