"""What importance weights w = exp(−S)/q tell: how good q is, log Z, and what Metropolis would make of it."""

import math

import numpy as np
from numpy.typing import ArrayLike

from latflow import formulas
from latflow.measurement import Measurement


def scaled_weight(log_weight: ArrayLike) -> np.ndarray:
    """w / max(w) = exp(log w − max log w), which neither overflows nor vanishes altogether.

    Raises:
        ValueError: when there are no weights, when some are nan or +inf, and when all are zero.
    """
    exponent = np.asarray(log_weight, dtype=np.float64)
    if not exponent.size:
        raise ValueError("expected log-weights, got none")
    bad = int(np.sum(np.isnan(exponent) | np.isposinf(exponent)))
    if bad:
        raise ValueError(
            f"expected finite log-weights, got {bad} of {exponent.size} that are nan or infinite"
        )
    largest = exponent.max()
    if np.isneginf(largest):
        raise ValueError("expected a weight above zero, got only log-weights of -inf")
    return np.exp(exponent - largest)


def effective_sample_size(log_weight: ArrayLike) -> float:
    """ESS = (Σw)² / (N Σw²), in (0, 1]: the share of the draws that count. Raises as `scaled_weight`."""
    return float(formulas.effective_sample_size(scaled_weight(log_weight)))


def draws_behind_errors(log_weight: ArrayLike) -> float:
    """(Σw²)² / Σw⁴, the number of draws that an error of weighted averages is made of, from 1 to N.

    The variance of an average is a sum over draws with the weights w², whose own effective sample size this
    is: the relative error of an error is about 1/√(2n) of it. It is much smaller than N·ESS where weights
    have a heavy tail. Raises as `scaled_weight`.

    Source: A. B. Owen, Monte Carlo theory, methods and examples (2013), section 9.3.

    Example:
        >>> round(draws_behind_errors([0.0, 0.0, 0.0, 2.0]), 2)
        1.11
    """
    doubled = 2 * np.asarray(log_weight, dtype=np.float64)
    return doubled.size * effective_sample_size(doubled)


def reweighted_share(factor: ArrayLike, log_weight: ArrayLike | None = None) -> float:
    """(Σ r)² / (N Σ r²), r = w σ: the share of N configurations that averages ⟨Oσ⟩/⟨σ⟩ are worth.

    The cost of reweighting: for signs and without weights it is ⟨σ⟩². What σ and O have to do with each other
    comes on top, as do autocorrelations. Raises as `scaled_weight`, and for factors that are all zero.

    Args:
        factor: σ of each configuration, of either sign.
        log_weight: of independent draws, in the same order; None for Markov chains.
    """
    ratio = np.asarray(factor, dtype=np.float64).ravel()
    if log_weight is not None:
        ratio = ratio * scaled_weight(log_weight).ravel()
    if not np.any(ratio):
        raise ValueError("expected factors that are not all zero")
    return float(np.sum(ratio) ** 2 / (ratio.size * np.sum(ratio**2)))


def free_energy(log_weight: ArrayLike) -> Measurement:
    """F = −log Z = −log⟨w⟩_q, from independent draws of q. Raises as `scaled_weight`.

    The error is that of ⟨w⟩ divided by ⟨w⟩; like the value it is blind to modes of the target that q misses.
    """
    weight = scaled_weight(log_weight)
    largest = float(np.max(np.asarray(log_weight, dtype=np.float64)))
    mean = float(weight.mean())
    return Measurement(-largest - math.log(mean), _standard_error(weight) / mean, n=weight.size)


def variational_free_energy(log_weight: ArrayLike) -> Measurement:
    """F_q = −⟨log w⟩_q = F + D_KL(q|p) ≥ F, from independent draws of q. Raises as `scaled_weight`.

    Infinite, with an error that is nan, when a draw has weight zero.
    """
    scaled_weight(log_weight)
    exponent = np.asarray(log_weight, dtype=np.float64)
    if np.isneginf(exponent).any():
        return Measurement(math.inf, math.nan, n=exponent.size)
    return Measurement(-float(exponent.mean()), _standard_error(exponent), n=exponent.size)


def entropy(log_weight: ArrayLike, action: ArrayLike) -> Measurement:
    """−Σ p log p = log Z + ⟨S⟩ of the target, from independent draws of q. Raises as `scaled_weight`.

    With r = w/⟨w⟩ the error is that of the mean of r − 1 + r (S − ⟨S⟩), in which log Z and ⟨S⟩ vary together.

    Args:
        log_weight: −S − log q of each draw.
        action: S of each draw, in the same order.
    """
    weight = scaled_weight(log_weight).ravel()
    ratio, s = weight / weight.mean(), np.asarray(action, dtype=np.float64).ravel()
    mean = float(ratio @ s / ratio.size)
    error = _standard_error(ratio - 1 + ratio * (s - mean))
    return Measurement(-free_energy(log_weight).value + mean, error, n=weight.size)


def largest_weight_share(log_weight: ArrayLike) -> float:
    """max(w) / Σw: how much of every weighted average one draw decides. Raises as `scaled_weight`."""
    return float(1 / scaled_weight(log_weight).sum())


def expected_acceptance(log_weight: ArrayLike) -> float:
    """Acceptance of the independence sampler, a = E_{w∼p, w'∼q} min(1, w'/w) = Σ_ij min(w_i, w_j) / (N Σw).

    Exact for a chain that proposes the given draws with equal probability, so high by at most 1/N for q
    itself; in O(N log N). Raises as `scaled_weight`.
    """
    weight = np.sort(scaled_weight(log_weight), axis=None)
    pairs = 2 * np.arange(weight.size)[::-1] + 1  # in how many ordered pairs each weight is the smaller one
    return float(weight @ pairs / (weight.size * weight.sum()))


def tau_from_weights(log_weight: ArrayLike) -> float:
    """Autocorrelation time of the independence sampler for observables independent of w.

        τ = ½ + E_p[R/(1−R)],    R(w) = E_q[(1 − w'/w)_+] the probability to reject when at weight w

    Exact for a chain that proposes the given draws with equal probability; with a heavy tail of w the value
    for q itself may be larger. In O(N log N). Raises as `scaled_weight`.
    """
    weight = np.sort(scaled_weight(log_weight), axis=None)
    weight = weight[weight.size - np.count_nonzero(weight) :] if weight[0] == 0 else weight
    n_draws = np.asarray(log_weight).size
    below = np.concatenate(([0.0], np.cumsum(weight)[:-1]))
    # 1 − R = N⁻¹ Σ_j min(1, w_j/w): all those above w count 1
    accept = (below / weight + np.arange(weight.size, 0, -1)) / n_draws
    return float(0.5 + weight @ ((1 - accept) / accept) / weight.sum())


def pareto_tail_index(log_weight: ArrayLike) -> float:
    """k̂, the shape of the generalised Pareto distribution fitted to the largest weights.

    The tail is the largest M = min(N/5, 3√N) weights, as excesses w − u over the next one, u. Moments of w
    below the order 1/k exist: the error of averages is finite for k < ½, and above k ≈ 0.7 no number of draws
    that one can afford makes them reliable. Not positive for a tail that falls faster than any power, or
    ends; −inf when the largest weights are all equal, up to rounding.

    Where some of them equal u, or the quartile of the excesses is too small a part of the largest for double
    precision, the fit does not see all of the tail. The result then is at least log(w_max/u) / log M, the k
    by which the largest of M draws of a power law exceeds u: large when a few draws have all the weight,
    small when the weights have a few values that are alike, and inf when u is zero.

    Sources: Vehtari, Simpson, Gelman, Yao, Gabry, Pareto smoothed importance sampling, JMLR 25 (2024) 72,
    arXiv:1507.02646, without their prior for k; the fit is that of Zhang and Stephens, Technometrics 51
    (2009) 316.

    Raises:
        ValueError: for fewer than 25 draws, and as `scaled_weight`.
    """
    scaled = np.sort(scaled_weight(log_weight), axis=None)
    if scaled.size < 25:
        raise ValueError(f"expected at least 25 draws to fit a tail, got {scaled.size}")
    tail = math.ceil(min(scaled.size / 5, 3 * math.sqrt(scaled.size)))
    exponent = np.sort(np.asarray(log_weight, dtype=np.float64), axis=None)[-tail - 1 :]
    with np.errstate(invalid="ignore"):  # of zeros among zeros
        rise = np.nan_to_num(exponent[1:] - exponent[0], posinf=math.inf)  # log(w/u)
    rounding = 4 * np.finfo(np.float64).eps * max(1.0, abs(float(exponent[-1])))
    if not rise[-1] > rounding:
        return -math.inf
    excess = (scaled[-tail:] - scaled[-tail - 1])[rise > rounding]
    resolved = len(excess) >= 5 and excess[_quartile(len(excess))] > np.finfo(np.float64).tiny
    fitted = _pareto_shape(excess) if resolved else -math.inf
    if resolved and len(excess) == tail:
        return fitted
    return max(fitted, float(rise[-1]) / math.log(tail))


def _standard_error(draws: np.ndarray) -> float:
    return float(np.std(draws, ddof=1) / math.sqrt(draws.size)) if draws.size > 1 else math.nan


def _pareto_shape(excess: np.ndarray) -> float:
    """The shape k of σ⁻¹(1 + kx/σ)^{−1−1/k} for ascending x > 0, by Zhang and Stephens' posterior mean.

    With θ = −k/σ the profile likelihood is n [log(−θ/k) − k − 1], k(θ) = mean log(1 − θx); θ is averaged over
    a grid of quantiles of their prior.
    """
    n = len(excess)
    grid = 30 + math.isqrt(n)
    quantile = np.arange(1, grid + 1) - 0.5
    theta = 1 / excess[-1] + (1 - np.sqrt(grid / quantile)) / (3 * excess[_quartile(n)])
    shape = np.log1p(-theta[:, None] * excess).mean(1)
    log_likelihood = n * (np.log(-theta / shape) - shape - 1)
    posterior = np.exp(log_likelihood - log_likelihood.max())
    mean_theta = posterior @ theta / posterior.sum()
    return float(np.log1p(-mean_theta * excess).mean())


def _quartile(n: int) -> int:
    """The index of the first quartile among n ascending numbers."""
    return int(n / 4 + 0.5) - 1
