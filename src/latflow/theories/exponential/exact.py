"""The exponential toy model, where the variance of each gradient estimator is known.

The model q(φ) = θ exp(−θφ) learns the target p(φ) = λ exp(−λφ). With s = log q − log p and δ = ∂_θ log q, the
estimators of dD_KL/dθ on N draws are

    g1 = ⟨δ s⟩,  g2 = ⟨δ (s − s̄)⟩,  g3 = g_path + ⟨δ⟩ (reparametrisation),  g_path the path gradient.

Source: Białas, Korcyl, Stebel, Gradient estimators for normalising flows, section 5; exact in N and in θ − λ
here, where the paper expands (its eq. 34 should begin with 8/N).
"""

import math
from dataclasses import dataclass

__all__ = ["ToyVariance", "toy_gradient", "toy_kl", "toy_variance"]


@dataclass(frozen=True)
class ToyVariance:
    """Variance of each estimator of the gradient, for a batch of N draws."""

    g1: float
    g2: float
    g3: float
    g_path: float


def toy_kl(theta: float, rate: float) -> float:
    """D_KL(q|p) = log θ − log λ − (θ − λ)/θ.

    Args:
        theta: θ > 0, the parameter of the model.
        rate: λ > 0, the rate of the target.

    Raises:
        ValueError: unless both are positive.
    """
    _check(theta, rate)
    r = (theta - rate) / theta
    # log θ/λ = −log(1 − r), which keeps the digits of a small r; where θ ≫ λ it is 1 − r that loses them
    return (math.log(theta / rate) if r > 0.5 else -math.log1p(-r)) - r


def toy_gradient(theta: float, rate: float) -> float:
    """dD_KL/dθ = (θ − λ)/θ², the expectation value of g1, g3, g_path, N/(N−1) g2. Raises as `toy_kl`."""
    _check(theta, rate)
    return (theta - rate) / theta**2


def toy_variance(theta: float, rate: float, n: int) -> ToyVariance:
    """Variances of the gradient estimators on N independent draws, with r = (θ−λ)/θ and c = log(θ/λ).

        N var g1 = (c² − 6cr + 13r²)/θ²            var g2 = r²/θ² (N−1)(8N−6)/N³
        N var g3 = λ²/θ⁴                           N var g_path = r²/θ²

    Args:
        theta: θ > 0, the parameter of the model.
        rate: λ > 0, the rate of the target.
        n: N, the number of draws that the mean runs over.

    Raises:
        ValueError: unless θ and λ are positive and N ≥ 1.
    """
    _check(theta, rate)
    if n < 1:
        raise ValueError(f"expected at least one draw, got n = {n}")
    r, c = (theta - rate) / theta, math.log(theta / rate)
    return ToyVariance(
        g1=(c**2 - 6 * c * r + 13 * r**2) / theta**2 / n,
        g2=r**2 / theta**2 * (n - 1) * (8 * n - 6) / n**3,
        g3=rate**2 / theta**4 / n,
        g_path=r**2 / theta**2 / n,
    )


def _check(theta: float, rate: float) -> None:
    if not (0 < theta < math.inf and 0 < rate < math.inf):
        raise ValueError(f"expected theta > 0 and rate > 0, both finite, got {theta} and {rate}")
