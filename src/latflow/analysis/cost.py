"""What an error bar costs: how many numbers it needs, and what these take.

Of a Markov chain of N numbers the error of an average is e, e² = σ² 2τ/N, where σ² is the variance of one
number; of a function of averages σ² is that of its linearised fluctuation, and of weighted draws, whose 2τ
is 1, what the weights make of it. So a pilot tells what any other error needs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latflow.measurement import Measurement


@dataclass(frozen=True)
class Need:
    """What an error takes.

    Attributes:
        independent: n = σ²/e², how many independent numbers.
        numbers: N = 2τ n, how many numbers of this chain, over all that run side by side.
    """

    independent: Measurement
    numbers: Measurement


def variance(found: Measurement) -> float:
    """σ² = N e²/(2τ) of one number, from the error of the average over N of them."""
    return found.error**2 * (found.n or 1) / _correlated(found)


def needed(found: Measurement, groups: Sequence[Measurement], error: float, *, relative: bool = True) -> Need:
    """How many numbers an error needs, with the error of that prediction.

        n = (σ/(ε|μ|))²,    N = 2τ n,    (δN/N)² = (δτ/τ)² + (δσ²/σ²)² + (2 δμ/μ)²

    with δσ² from the spread of σ² among parts of the record, and without the last term where the error is an
    absolute one; δn is that of N without that of τ.

    Args:
        found: the average over a pilot.
        groups: the same over parts of it of equal length, at least two.
        error: ε of the average, or the error itself.
        relative: whether it is ε.

    Raises:
        ValueError: for an error that is not positive, fewer than two groups, or a pilot without an error.
    """
    if not (error > 0 and math.isfinite(error)):
        raise ValueError(f"expected a positive error, got {error}")
    if len(groups) < 2 or not (found.error > 0 and math.isfinite(found.error)):
        raise ValueError(f"expected a pilot with an error in at least 2 parts, got {found} in {len(groups)}")
    target = error * abs(found.value) if relative else error
    independent = variance(found) / target**2
    parts = np.array([variance(one) for one in groups])
    spread = float(parts.std(ddof=1) / math.sqrt(len(parts)) / parts.mean())
    of_mean = 2 * found.error / abs(found.value) if relative else 0.0
    of_tau = 0.0 if found.tau_int is None else (found.tau_int_error or 0.0) / found.tau_int
    numbers = independent * _correlated(found)
    return Need(
        Measurement(independent, independent * math.hypot(spread, of_mean)),
        Measurement(numbers, numbers * math.hypot(spread, of_mean, of_tau)),
    )


def product(one: Measurement, other: Measurement) -> Measurement:
    """Of two numbers that are independent."""
    return Measurement(one.value * other.value, math.hypot(one.value * other.error, other.value * one.error))


def total(*parts: Measurement) -> Measurement:
    """Of numbers that are independent."""
    return Measurement(math.fsum(one.value for one in parts), math.hypot(*(one.error for one in parts)))


def price(tau: Measurement, seconds: float) -> Measurement:
    """2τ times the seconds of a step of one chain: what an independent number takes."""
    return Measurement(2 * tau.value * seconds, 2 * tau.error * seconds)


def break_even(training: float, price: float, other: float) -> float:
    """From how many independent numbers a training has paid, training/(other − price); inf for never.

    Args:
        training: its seconds.
        price: what an independent number takes with the trained model.
        other: what it takes without.

    Example:
        >>> round(break_even(60.0, 0.01, 0.03))
        3000
    """
    return training / (other - price) if other > price else math.inf


def least_ess(training: float, draw: float, other: float, independent: float) -> float:
    """The ESS from which weighted draws cost no more than another way: n s/(n c − training).

    Args:
        training: its seconds.
        draw: s, what one draw takes.
        other: c, what an independent number takes by the other way.
        independent: n, how many are needed.

    Returns:
        Above 1 where no density is good enough, inf where the training alone costs more.

    Example:
        >>> round(least_ess(60.0, 0.01, 0.03, 6000.0), 3)
        0.5
    """
    left = independent * other - training
    return independent * draw / left if left > 0 else math.inf


def _correlated(found: Measurement) -> float:
    """2τ; 1 of independent draws."""
    return 1.0 if found.tau_int is None else 2 * found.tau_int
