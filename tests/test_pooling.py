"""Curves from pooled draws, of the mean field model of n spins, which is exact for every coupling."""

import math

import numpy as np
import pytest
from scipy.optimize import root_scalar
from scipy.special import gammaln, logsumexp

from latflow.analysis import Average, crossing, pooled
from latflow.observables import binder_cumulant

COUPLINGS = np.linspace(0.7, 1.5, 9)
OWN = [0, 4, 8]
DRAWS, REPETITIONS = 600, 200


def states(n):
    """m of n spins with so many up, and the logarithm of the number of their configurations."""
    up = np.arange(n + 1)
    return (2 * up - n) / n, gammaln(n + 1) - gammaln(up + 1) - gammaln(n - up + 1)


def log_weights(n, g):
    """−S = g n m²/2 beside the number of configurations."""
    m, entropy = states(n)
    return entropy + g * n * m**2 / 2


def exact_binder(n, g):
    m, p = states(n)[0], np.exp(log_weights(n, g) - logsumexp(log_weights(n, g)))
    return binder_cumulant(p @ m**2, p @ m**4)


def curve(n, rng, function=binder_cumulant):
    """From draws at three couplings, of densities that are wrong by a third here and there."""
    m = states(n)[0]
    taken, exponent = [], []
    for place in OWN:
        log_q = log_weights(n, COUPLINGS[place]) + 0.3 * np.sin(5 * m + place)
        log_q -= logsumexp(log_q)
        x = rng.choice(len(m), DRAWS, p=np.exp(log_q))
        taken.append((m[x] ** 2, m[x] ** 4))
        exponent.append([log_weights(n, g)[x] - log_q[x] for g in COUPLINGS])
    return pooled(np.swapaxes(exponent, 0, 1), np.swapaxes(taken, 0, 1), OWN, function)


@pytest.fixture(scope="module")
def repeated():
    """Curves of 12 and of 48 spins, many times."""
    rng = np.random.default_rng(1)
    return [(curve(12, rng), curve(48, rng)) for _ in range(REPETITIONS)]


def check_pulls(pulls):
    """Normal numbers: mean 0 and variance 1, at five sigma."""
    assert abs(np.mean(pulls)) < 5 / math.sqrt(len(pulls))
    assert abs(np.var(pulls) - 1) < 5 * math.sqrt(2 / len(pulls))


@pytest.mark.parametrize("place", [0, 2, 4, 7])
def test_errors_cover_the_exact_curve(repeated, place):
    """At couplings of draws and between them."""
    pulls = []
    for one, _ in repeated:
        found = one[place].measurement
        pulls.append((found.value - exact_binder(12, COUPLINGS[place])) / found.error)
    check_pulls(pulls)


def test_all_draws_serve_every_coupling(repeated):
    """The sets share the error, which is smaller than that of as many perfect draws as one of them has."""
    one = repeated[0][0]
    sets = [Average(0.0, one[4].influence[j : j + 1]).measurement.error for j in range(3)]
    assert one[4].measurement.error == pytest.approx(math.hypot(*sets), rel=1e-2)
    assert max(sets) < 2.5 * min(sets)
    log_q = log_weights(12, COUPLINGS[4])
    m, p = states(12)[0], np.exp(log_q - logsumexp(log_q))
    x = np.random.default_rng(3).choice(len(m), DRAWS, p=p)
    alone = pooled(np.zeros((1, 1, DRAWS)), np.stack([m[x] ** 2, m[x] ** 4])[:, None], [0], binder_cumulant)
    assert one[4].measurement.error < 0.75 * alone[0].measurement.error


def test_averages_at_two_couplings_are_correlated_as_their_errors_say(repeated):
    """The variance of their difference over the repetitions: five sigma of χ²."""
    values = np.array([[one[3].value, one[4].value] for one, _ in repeated])
    expected = np.mean(
        [
            a.covariance(a) + b.covariance(b) - 2 * a.covariance(b)
            for a, b in (one[3:5] for one, _ in repeated)
        ]
    )
    assert np.var(values[:, 1] - values[:, 0]) / expected == pytest.approx(
        1, abs=5 * math.sqrt(2 / REPETITIONS)
    )
    apart = np.mean([one[3].covariance(one[3]) + one[4].covariance(one[4]) for one, _ in repeated])
    assert expected < apart / 5


def test_curves_cross_where_the_exact_ones_do(repeated):
    place = root_scalar(lambda g: exact_binder(48, g) - exact_binder(12, g), bracket=(0.75, 1.45)).root
    found = [crossing(COUPLINGS, one, other) for one, other in repeated]
    assert np.mean([g.error for g, _ in found]) < 0.05
    check_pulls([(g.value - place) / g.error for g, _ in found])
    check_pulls([(u.value - exact_binder(12, place)) / u.error for _, u in found])


def test_what_does_not_fit_is_refused():
    rng = np.random.default_rng(2)
    one = curve(12, rng)
    with pytest.raises(ValueError, match=r"of the same draws, got \(9, 3, 5\) and \(2, 3, 4\)"):
        pooled(np.zeros((9, 3, 5)), np.zeros((2, 3, 4)), OWN, binder_cumulant)
    with pytest.raises(
        ValueError, match=r"expected the coupling of each set, of two draws or more, got \[0, 4\]"
    ):
        pooled(np.zeros((9, 3, 5)), np.zeros((2, 3, 5)), [0, 4], binder_cumulant)
    with pytest.raises(ValueError, match="expected two curves of at least 4 points each, got 3 and 3"):
        crossing(COUPLINGS[:3], one[:3], one[:3])
    with pytest.raises(ValueError, match=r"expected curves that cross once from 0.7 to 1.5, got 0 times"):
        crossing(COUPLINGS, one, [Average(a.value + 0.1, a.influence) for a in one])
