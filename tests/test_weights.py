"""What weights tell, against Gaussian log-weights, against double loops, and against chains that use them."""

import math

import numpy as np
import pytest

from latflow import analysis

FUNCTIONS = [
    analysis.effective_sample_size,
    analysis.free_energy,
    analysis.variational_free_energy,
    analysis.largest_weight_share,
    analysis.draws_behind_errors,
    analysis.expected_acceptance,
    analysis.tau_from_weights,
    analysis.pareto_tail_index,
]


def gaussian_log_weights(sigma, shape, seed=0):
    """log w ~ N(−σ²/2, σ²) under q, so that Z = ⟨w⟩ = 1."""
    return sigma * np.random.default_rng(seed).standard_normal(shape) - sigma**2 / 2


@pytest.mark.parametrize("sigma", [0.3, 0.9])
def test_gaussian_log_weights(sigma):
    # 40 independent estimates each: their mean lies within five standard deviations of the exact value.
    log_weight = gaussian_log_weights(sigma, (40, 10_000)) + 300
    for function, expected in (
        (analysis.effective_sample_size, math.exp(-(sigma**2))),
        (analysis.expected_acceptance, math.erfc(sigma / 2)),
        (lambda w: analysis.free_energy(w).value, -300),
        (lambda w: analysis.variational_free_energy(w).value, -300 + sigma**2 / 2),
    ):
        estimates = np.array([function(row) for row in log_weight])
        bias = 3 * math.exp(sigma**2) / 10_000  # of order 1/N
        assert abs(estimates.mean() - expected) < 5 * estimates.std() / math.sqrt(40) + bias


def test_errors_of_free_energies_cover():
    # 1000 pulls: a fraction 0.683 within one sigma, binomial spread 0.015.
    log_weight = gaussian_log_weights(0.5, (1000, 500), seed=1)
    for function, expected in ((analysis.free_energy, 0.0), (analysis.variational_free_energy, 0.125)):
        pulls = np.array([function(row).pull(expected) for row in log_weight])
        assert abs(np.mean(abs(pulls) < 1) - 0.683) < 5 * 0.015


def test_the_draws_behind_errors_tell_which_cover():
    """Intervals of 800 averages of log w: a share of 0.683 is seen to 0.016.

    N·ESS is above 50 either way. Where fifty draws and more make the error it covers; where the heavy tail
    leaves ten, it is too small.
    """
    shares = {}
    for sigma, n in ((0.5, 400), (1.6, 1000)):
        runs = gaussian_log_weights(sigma, (800, n), seed=4)
        pulls = [analysis.measure(log_weight, log_weight).pull(sigma**2 / 2) for log_weight in runs]
        behind = np.median([analysis.draws_behind_errors(log_weight) for log_weight in runs[:100]])
        worth = np.median([n * analysis.effective_sample_size(log_weight) for log_weight in runs[:100]])
        assert worth > 50
        shares[behind > 50] = np.mean(np.abs(pulls) < 1)
    assert abs(shares[True] - 0.683) < 5 * 0.016
    assert shares[False] < 0.683 - 5 * 0.016


def test_sums_over_pairs_are_those_of_double_loops():
    log_weight = gaussian_log_weights(1.5, (17, 11), seed=2)
    w = np.exp(log_weight).ravel()
    ratio = w[None, :] / w[:, None]
    p = w / w.sum()
    assert analysis.expected_acceptance(log_weight) == pytest.approx(p @ np.minimum(1, ratio).mean(1))
    reject = np.maximum(1 - ratio, 0).mean(1)
    tau = 0.5 + p @ (reject / (1 - reject))
    assert analysis.tau_from_weights(log_weight) == pytest.approx(tau)
    assert analysis.largest_weight_share(log_weight) == pytest.approx(p.max())
    assert analysis.effective_sample_size(log_weight) == pytest.approx(1 / (p @ p) / p.size)
    assert analysis.draws_behind_errors(log_weight) == pytest.approx((p @ p) ** 2 / (p**2 @ p**2))
    a = analysis.expected_acceptance(log_weight)
    assert tau >= (2 - a) / (2 * a)


def test_tau_is_that_of_a_simulated_chain():
    # Independence Metropolis with an observable independent of the weights: τ of 1000 chains of 2000 steps.
    sigma, steps, chains = 0.9, 2000, 1000
    rng = np.random.default_rng(3)
    proposals = gaussian_log_weights(sigma, (steps, chains), seed=4)
    values, threshold = rng.standard_normal((steps, chains)), np.log(rng.uniform(size=(steps, chains)))
    held = gaussian_log_weights(sigma, chains, seed=5) + sigma**2  # log w under p
    value, series, accepted = (
        rng.standard_normal(chains),
        np.empty((steps, chains)),
        np.empty((steps, chains), bool),
    )
    for t in range(steps):
        accepted[t] = threshold[t] < proposals[t] - held
        held = np.where(accepted[t], proposals[t], held)
        value = series[t] = np.where(accepted[t], values[t], value)
    found = analysis.measure(series)
    expected = np.array(
        [analysis.tau_from_weights(row) for row in gaussian_log_weights(sigma, (20, 50_000), seed=6)]
    )
    spread = math.hypot(found.tau_int_error, expected.std() / math.sqrt(20))
    assert abs(found.tau_int - expected.mean()) < 5 * spread
    assert spread < 0.03 * found.tau_int
    acceptance = analysis.acceptance(accepted)
    assert abs(acceptance.pull(math.erfc(sigma / 2))) < 5
    assert acceptance.error < 0.002


@pytest.mark.parametrize("k", [0.2, 0.5, 0.7, 1.0, 1.5])
def test_pareto_tail_index_of_power_laws(k):
    # A tail of 424 weights: one estimate has a standard deviation of (1 + k)/√424, and 20 are averaged.
    log_weight = -k * np.log(np.random.default_rng(7).uniform(size=(20, 20_000)))
    estimates = [analysis.pareto_tail_index(row + 1000) for row in log_weight]
    spread = (1 + k) / math.sqrt(424)
    assert abs(np.mean(estimates) - k) < 5 * spread / math.sqrt(20) + 0.02  # Zhang and Stephens' bias is 1/n
    assert np.std(estimates) == pytest.approx(spread, rel=0.8)


def test_pareto_tail_index_of_tails_that_are_no_power_law():
    rng = np.random.default_rng(8)
    assert abs(analysis.pareto_tail_index(np.log(rng.exponential(size=20_000)))) < 5 / math.sqrt(424)
    assert analysis.pareto_tail_index(np.log(rng.uniform(size=20_000))) == pytest.approx(-1, abs=0.3)
    assert analysis.pareto_tail_index(np.zeros(100)) == -math.inf
    log_weight = gaussian_log_weights(0.1, 20_000)
    assert analysis.pareto_tail_index(log_weight) < 0.3 < 0.7 < analysis.pareto_tail_index(30 * log_weight)


def slow_pareto_shape(excess):
    """Zhang and Stephens, Technometrics 51 (2009) 316 with k of the sign of PSIS, one θ at a time."""
    x, n = sorted(excess), len(excess)
    m = 30 + math.floor(math.sqrt(n))
    quartile = x[math.floor(n / 4 + 0.5) - 1]
    thetas = [1 / x[-1] + (1 - math.sqrt(m / (j - 0.5))) / (3 * quartile) for j in range(1, m + 1)]

    def log_likelihood(theta):
        k = sum(math.log(1 - theta * y) for y in x) / n
        return n * (math.log(-theta / k) - k - 1)

    logs = [log_likelihood(theta) for theta in thetas]
    weights = [1 / sum(math.exp(other - mine) for other in logs) for mine in logs]
    theta = sum(w * t for w, t in zip(weights, thetas, strict=True))
    return sum(math.log(1 - theta * y) for y in x) / n


@pytest.mark.parametrize("k", [-0.4, 0.2, 0.7, 1.5])
@pytest.mark.parametrize("n", [30, 400, 3000])
def test_pareto_tail_index_is_that_of_a_plain_fit(k, n):
    uniform = np.random.default_rng(9).uniform(size=n)
    weight = 1 + (uniform**-k - 1) / k  # 1 + a generalised Pareto variable: the tail is one again
    tail = math.ceil(min(n / 5, 3 * math.sqrt(n)))
    largest = np.sort(weight)[-tail - 1 :] / weight.max()
    expected = slow_pareto_shape(largest[1:] - largest[0])
    assert analysis.pareto_tail_index(np.log(weight) - 1e3) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    "log_weight",
    [
        np.r_[np.zeros(999), 50.0],
        np.r_[np.zeros(994), np.full(6, 50.0)],
        np.r_[np.full(999, -math.inf), 0.0],
        np.r_[np.zeros(99), 5e-1 * np.arange(30)],
        1e4 * np.random.default_rng(1).standard_normal(1000),
        *(np.random.default_rng(seed).standard_cauchy(1000) for seed in range(8)),
    ],
)
def test_a_few_draws_with_all_the_weight_are_a_heavy_tail(log_weight):
    assert analysis.pareto_tail_index(log_weight) > 0.7
    assert analysis.pareto_tail_index(log_weight[::-1] - 1e3) > 0.7


def test_a_few_weights_that_are_alike_are_none():
    rng = np.random.default_rng(10)
    for log_weight in (
        np.r_[np.zeros(997), np.full(3, math.log(2))],  # by the growth of the largest, log 2/log 95 = 0.15
        np.r_[np.zeros(950), np.full(50, 0.7)],
        np.r_[np.full(500, -math.inf), 0.1 * rng.standard_normal(500)],
        np.round(0.3 * rng.standard_normal(1000), 1),
    ):
        assert -math.inf < analysis.pareto_tail_index(log_weight) < 0.3
    for equal in (
        np.r_[np.full(500, -math.inf), np.zeros(500)],
        700 + 1e-13 * rng.standard_normal(1000),  # a perfect model, in the rounding errors of S
        np.r_[np.full(24, -math.inf), np.zeros(26)],
    ):
        assert analysis.pareto_tail_index(equal) == -math.inf


def test_equal_weights_are_perfect():
    log_weight = np.full((10, 10), -700.0)
    assert analysis.effective_sample_size(log_weight) == 1
    assert analysis.expected_acceptance(log_weight) == pytest.approx(1)
    assert analysis.tau_from_weights(log_weight) == pytest.approx(0.5)
    assert analysis.largest_weight_share(log_weight) == pytest.approx(0.01)
    assert analysis.draws_behind_errors(log_weight) == pytest.approx(100)
    assert analysis.free_energy(log_weight) == analysis.Measurement(700.0, 0.0, n=100)
    assert analysis.variational_free_energy(log_weight) == analysis.Measurement(700.0, 0.0, n=100)


def test_draws_outside_the_support_have_no_weight():
    log_weight = np.zeros(40)
    log_weight[::2] = -math.inf
    assert analysis.effective_sample_size(log_weight) == pytest.approx(0.5)
    assert analysis.expected_acceptance(log_weight) == pytest.approx(0.5)
    assert analysis.tau_from_weights(log_weight) == pytest.approx(1.5)  # τ = (2 − a)/(2a)
    assert analysis.free_energy(log_weight).value == pytest.approx(math.log(2))
    assert analysis.variational_free_energy(log_weight).value == math.inf


@pytest.mark.parametrize("function", FUNCTIONS)
def test_weights_that_are_none_are_refused(function):
    with pytest.raises(ValueError, match="got 2 of 30 that are nan or infinite"):
        function(np.where(np.arange(30) < 2, math.nan, 0.0))
    with pytest.raises(ValueError, match="got none"):
        function(np.zeros(0))
    with pytest.raises(ValueError, match="weight above zero"):
        function(np.full(30, -math.inf))


def test_pareto_tail_index_needs_a_tail():
    with pytest.raises(ValueError, match="at least 25 draws"):
        analysis.pareto_tail_index(np.zeros(24))


def test_longest_rejection_run():
    accepted = np.array([[1, 0], [0, 0], [0, 1], [1, 0], [0, 0], [0, 0]], dtype=bool)
    assert analysis.longest_rejection_run(accepted) == 3
    assert analysis.longest_rejection_run(accepted[:, 0]) == 2
    assert analysis.longest_rejection_run(np.ones(7, dtype=bool)) == 0
    assert analysis.longest_rejection_run(np.zeros((7, 2), dtype=bool)) == 7


def test_acceptance_is_an_average_of_the_record():
    accepted = np.random.default_rng(9).uniform(size=(500, 4)) < 0.3
    found = analysis.acceptance(accepted)
    assert found.value == pytest.approx(accepted.mean())
    assert found.error == pytest.approx(math.sqrt(0.21 / 2000), rel=0.2)
    always = analysis.acceptance(np.ones(10, dtype=bool))
    assert (always.value, always.warning) == (1.0, "constant")


def test_the_share_that_reweighting_leaves_is_that_of_the_variances():
    """Of σ independent of O: var⟨Oσ⟩/⟨σ⟩ over N numbers is var(O) / (N share), for signs by themselves."""
    rng = np.random.default_rng(21)
    sign = np.where(rng.random((200, 4)) < 0.2, -1.0, 1.0)
    assert analysis.reweighted_share(sign) == pytest.approx(sign.mean() ** 2)
    log_weight = rng.standard_normal(800)
    assert analysis.reweighted_share(np.ones(800), log_weight) == pytest.approx(
        analysis.effective_sample_size(log_weight)
    )
    noise = rng.standard_normal(sign.shape)
    found = analysis.measure(noise, np.zeros_like(noise), factor=sign)
    assert found.error == pytest.approx(1 / math.sqrt(800 * analysis.reweighted_share(sign)), rel=0.15)
    with pytest.raises(ValueError, match="not all zero"):
        analysis.reweighted_share(np.zeros(3))
