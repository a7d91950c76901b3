"""Averages as functions of a coupling, from independent weighted draws made at several of its values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.weights import free_energy
from latflow.measurement import Measurement

_AROUND = 4
"""Values of the coupling through which a cubic passes."""


@dataclass(frozen=True)
class Average:
    """A value, and what each draw has added to it, so that errors of many follow with their correlations.

    Attributes:
        value: the estimate a.
        influence: δ of each draw, (sets, n), of mean zero in each set; the variance of a is Σ δ² n/(n − 1).
    """

    value: float
    influence: np.ndarray

    @property
    def measurement(self) -> Measurement:
        """The value with its error."""
        n = self.influence.shape[1]
        return Measurement(self.value, math.sqrt(n / (n - 1) * float((self.influence**2).sum())))

    def covariance(self, other: "Average") -> float:
        """With another one of the same draws."""
        n = self.influence.shape[1]
        return n / (n - 1) * float((self.influence * other.influence).sum())


def pooled(
    log_weight: ArrayLike, values: ArrayLike, own: Sequence[int], function: Callable[..., float]
) -> list[Average]:
    """A function of averages at every one of several couplings, each from all draws.

        ⟨O⟩_g = Σ_j n⁻¹ Σ_i W O(x_ij) / Σ_j n⁻¹ Σ_i W,    W = exp(−S_g(x_ij)) r_j(x_ij) / q_j(x_ij),
        r_j(x) = exp(−S_j(x)) Z_j⁻¹ / Σ_k exp(−S_k(x)) Z_k⁻¹

    for n independent draws x_ij of a density q_j in each set j, made for the coupling of the action S_j. As
    Σ_j r_j = 1 the averages are right as those of any weights are, whatever the Z_k; these are the means
    of the weights of the draws made there.

    Args:
        log_weight: −S_g(x_ij) − log q_j(x_ij), (couplings, sets, n).
        values: what is averaged, (observables, sets, n).
        own: the number of its coupling among all of them, for each set.
        function: of the averages of the observables, in their order. It is analytic and takes complex
            numbers, by which its derivatives are found.

    Raises:
        ValueError: for arrays that do not fit together, and log-weights as `free_energy` refuses them.
    """
    exponent, taken = np.asarray(log_weight, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if exponent.ndim != 3 or taken.ndim != 3 or exponent.shape[1:] != taken.shape[1:]:
        raise ValueError(
            f"expected log-weights (couplings, sets, n) and values (observables, sets, n) of the same draws, "
            f"got {exponent.shape} and {taken.shape}"
        )
    if len(own) != exponent.shape[1] or exponent.shape[2] < 2:
        raise ValueError(f"expected the coupling of each set, of two draws or more, got {list(own)}")
    log_z = np.array([-free_energy(exponent[place, number]).value for number, place in enumerate(own)])
    shares = exponent[list(own)] - log_z[:, None, None]  # log exp(−S_k)/Z_k, less log q_j, which cancels
    largest = shares.max(0)
    total = largest + np.log(np.exp(shares - largest).sum(0))
    log_share = np.stack([shares[j, j] - total[j] for j in range(len(own))])
    return [_average(one + log_share, taken, function) for one in exponent]


def _average(log_weight: np.ndarray, values: np.ndarray, function: Callable[..., float]) -> Average:
    n = log_weight.shape[1]
    weight = np.exp(log_weight - log_weight.max())
    weight = weight / (weight.sum() / n)
    means = (weight * values).sum((1, 2)) / n
    step = 1e-30j  # f(x + ih) = f(x) + ih f′(x), to all digits
    gradient = [
        complex(function(*(mean + step * (i == j) for j, mean in enumerate(means)))).imag / step.imag
        for i in range(len(means))
    ]
    influence = weight / n * np.tensordot(gradient, values - means[:, None, None], 1)
    return Average(float(np.real(function(*means))), influence - influence.mean(1, keepdims=True))


def crossing(
    couplings: ArrayLike, one: Sequence[Average], other: Sequence[Average]
) -> tuple[Measurement, Measurement]:
    """Where two curves of independent draws cross, and their value there.

        f(g*) = 0,  δg* = −δf(g*)/f′(g*),    f = a − b

    Between values of the coupling each curve is the cubic through the four nearest: linear in the averages,
    so that the errors of all of them go into the result with their correlations.

    Args:
        couplings: ascending, at least four.
        one: the curve a.
        other: the curve b.

    Raises:
        ValueError: for fewer couplings, and for curves that do not cross once.
    """
    from scipy.optimize import root_scalar

    g = np.asarray(couplings, dtype=np.float64)
    if len(g) < _AROUND or not len(g) == len(one) == len(other):
        raise ValueError(
            f"expected two curves of at least {_AROUND} points each, got {len(one)} and {len(other)}"
        )
    difference = np.array([a.value - b.value for a, b in zip(one, other, strict=True)])
    changes = np.flatnonzero(np.sign(difference[1:]) != np.sign(difference[:-1]))
    if len(changes) != 1:
        raise ValueError(
            f"expected curves that cross once from {g[0]:g} to {g[-1]:g}, got {len(changes)} times"
        )
    first = int(np.clip(changes[0] - 1, 0, len(g) - _AROUND))
    near = slice(first, first + _AROUND)
    bracket = g[changes[0] : changes[0] + 2]
    place = root_scalar(lambda at: _cubic(g[near], at)[0] @ difference[near], bracket=bracket).root
    weights, slopes = _cubic(g[near], place)
    a, b = (_combined(weights, curve[near]) for curve in (one, other))
    rate = float(slopes @ difference[near])
    rise = float(slopes @ [average.value for average in one[near]])
    # g* moves by −(δa − δb)/f′, and the value by δa + a′ δg*
    moves = _error(-a.influence / rate, b.influence / rate)
    lifts = _error(a.influence * (1 - rise / rate), b.influence * rise / rate)
    return Measurement(place, moves), Measurement(a.value, lifts)


def _error(*influences: np.ndarray) -> float:
    """Of a sum over independent draws."""
    return math.hypot(*(Average(0.0, one).measurement.error for one in influences))


def _combined(weights: np.ndarray, averages: Sequence[Average]) -> Average:
    """A sum of averages with weights."""
    value = sum(float(w) * one.value for w, one in zip(weights, averages, strict=True))
    return Average(value, np.tensordot(weights, np.stack([one.influence for one in averages]), 1))


def _cubic(nodes: np.ndarray, g: float) -> tuple[np.ndarray, np.ndarray]:
    """The weights with which values at the nodes give that of their polynomial at g, and its slope."""
    scaled, t = (nodes - nodes.mean()) / np.ptp(nodes), (g - nodes.mean()) / np.ptp(nodes)
    powers = np.arange(len(nodes))
    solve = np.linalg.inv(np.vander(scaled, increasing=True))
    slope = np.concatenate(([0.0], powers[1:] * t ** (powers[1:] - 1))) / np.ptp(nodes)
    return t**powers @ solve, slope @ solve
