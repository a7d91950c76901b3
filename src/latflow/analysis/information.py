"""Entropies of a part of a system, and the information that two parts share."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.weights import entropy, scaled_weight
from latflow.measurement import Measurement


def part_entropy(log_weight: ArrayLike, first: ArrayLike) -> Measurement:
    """S(A) = −⟨log p(a)⟩ = log Z − ⟨log Z(a)⟩ of a part A of a system, the rest summed over.

    Arguments, error and exceptions are those of `mutual_information`.
    """
    return _log_z_minus(log_weight, 0.0, [first])


def mutual_information(
    log_weight: ArrayLike, action: ArrayLike, first: ArrayLike, rest: ArrayLike
) -> Measurement:
    """I(A, B) = ⟨log p(a, b)/(p(a) p(b))⟩ = log Z − ⟨S + log Z(a) + log Z(b)⟩ of two parts of a system.

    The averages are those with the weights w = exp(−S)/q of independent draws (a, b) of q. For Z(a) =
    Σ_b exp(−S(a, b)) there are m inner weights exp(−S(a, b_j))/q(b_j|a) to each draw, that of its own b and
    those of m − 1 others:

        log Z(a) = [m log (mean of all m) + (m − 1) log (mean of the m − 1 others)] / (2m − 1)

    By Jensen's inequality the first logarithm is too large on average, for p favours a b with a large weight,
    and the second too small, both by κ/(2m), with κ the relative variance of the inner weights; this
    combination is wrong by order 1/m² alone. The result with one or the other brackets I. With δ half the
    width of the bracket for a part, δ min(1, δ) is added to the statistical error in quadrature: it covers
    the bias that is left, and where m is far too small, the bracket.

    Args:
        log_weight: log w of each draw, (n,).
        action: S of each draw, (n,).
        first: logs of the inner weights for Z(a), (n, m) with m at least 2, that of the draw itself first:
            see `autoregressive.cut_weights`.
        rest: the same for Z(b).

    Raises:
        ValueError: for inner weights of another shape, and as `scaled_weight`.
    """
    return _log_z_minus(log_weight, np.asarray(action, dtype=np.float64), [first, rest])


def _log_z_minus(
    log_weight: ArrayLike, observable: np.ndarray | float, inner: Sequence[ArrayLike]
) -> Measurement:
    """log Z − ⟨observable + Σ_parts log Z(part)⟩."""
    weight = scaled_weight(log_weight).ravel()
    total, biases = np.full(len(weight), observable, dtype=np.float64), []
    for logs in (np.asarray(part, dtype=np.float64) for part in inner):
        if logs.ndim != 2 or logs.shape[1] < 2 or len(logs) != len(weight):
            raise ValueError(f"expected inner log-weights ({len(weight)}, m ≥ 2), got shape {logs.shape}")
        m = logs.shape[1]
        high = np.logaddexp.reduce(logs, axis=1) - math.log(m)
        low = np.logaddexp.reduce(logs[:, 1:], axis=1) - math.log(m - 1)
        total += (m * high + (m - 1) * low) / (2 * m - 1)
        width = abs(float(weight @ (high - low) / weight.sum())) / 2
        biases.append(width * min(1.0, width))
    found = entropy(log_weight, -total)
    return replace(found, error=math.hypot(found.error, *biases))
