"""Closed forms in as many digits as their cancellations take: logarithms of Z and their derivatives.

Near β = 0 and for β → ∞ what is left of log Z, the energy and the specific heat is smaller than its terms by
factors of β² or exp(−8β), which no precision of the machine holds. Decimal numbers do.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from typing import NamedTuple

_MARGIN = 80
"""Digits beyond those that cancel: 20 of the result, twice 20 of the step of differences, and a reserve."""


@contextmanager
def digits(number: int = 60) -> Iterator[None]:
    """A context in which decimal numbers have so many digits, and any exponent."""
    with localcontext(Context(prec=number, Emax=MAX_EMAX, Emin=MIN_EMIN)):
        yield


class Derivatives(NamedTuple):
    """log Z, ∂ log Z/∂β and ∂² log Z/∂β² at one β."""

    value: Decimal
    first: Decimal
    second: Decimal


def derivatives(log_z: Callable[[Decimal], Decimal], beta: float, gap: float) -> Derivatives:
    """log Z and its derivatives, each to the last digit that a float has.

    They are differences over a step of 10⁻²⁰ |β|, in so many digits that neither their rounding nor what
    cancels down to exp(−gap |β|) is seen.

    Args:
        log_z: as a function of β, by arithmetic of decimal numbers.
        beta: β ≠ 0.
        gap: of the excitations whose weight exp(−gap |β|) is to be right.
    """
    small = max(0.0, -2 * math.log10(abs(beta)))
    with digits(_MARGIN + math.ceil(small + gap * abs(beta) / math.log(10))):
        at, step = Decimal(beta), Decimal(beta) * Decimal("1e-20")
        below, value, above = (log_z(at + shift) for shift in (-step, Decimal(0), step))
        return Derivatives(value, (above - below) / (2 * step), (above - 2 * value + below) / step**2)


def cosines(n: int) -> list[Decimal]:
    """cos(πl/n) for l = 0 … 2n − 1, in the precision of the context."""
    first = _cosine(_pi() / n)
    found = [Decimal(1), first]
    while len(found) < 2 * n:
        found.append(2 * first * found[-1] - found[-2])
    return found


def _cosine(x: Decimal) -> Decimal:
    total = term = Decimal(1)
    k = 0
    while total + term != total or k == 0:
        k += 2
        term = -term * x * x / (k * (k - 1))
        total += term
    return total


def _pi() -> Decimal:
    """By the formula of Machin, π/4 = 4 arctan(1/5) − arctan(1/239)."""
    return 4 * (4 * _arctan_of_inverse(5) - _arctan_of_inverse(239))


def _arctan_of_inverse(n: int) -> Decimal:
    power = total = Decimal(1) / n
    k, last = 1, Decimal(0)
    while total != last:
        k, power, last = k + 2, -power / (n * n), total
        total += power / k
    return total
