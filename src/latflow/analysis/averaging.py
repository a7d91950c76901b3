"""One number from many fits: what depends on the choice of a fit is averaged over the choices.

Errors go through each fit linearly, by the covariance of its parameters. Fits of different ranges and with
different functions count by their Akaike criterion,

    p ∝ exp(−½ (χ² + 2 parameters + 2 points left out)),
    a = Σ p a_i,    error² = Σ p error_i² + Σ p a_i² − a²

after W. I. Jay and E. T. Neil, Bayesian model averaging for analysis of lattice field theory results, Phys.
Rev. D 103 (2021) 114502, arXiv:2008.01069.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latflow.measurement import Measurement


@dataclass(frozen=True)
class Fit:
    """The outcome of one fit.

    Attributes:
        chi_squared: of it.
        dof: its degrees of freedom.
        parameters: how many it has.
        left_out: points that are not in it.
        numbers: that it tells, with their errors; none where it cannot.
    """

    chi_squared: float
    dof: int
    parameters: int
    left_out: int
    numbers: tuple[Measurement, ...] = ()

    @property
    def criterion(self) -> float:
        """χ² + 2 parameters + 2 points left out."""
        return self.chi_squared + 2 * self.parameters + 2 * self.left_out


def told(fits: Sequence[Fit]) -> tuple[Fit, list[Measurement]]:
    """The fit that counts for most, and each number averaged over the fits that tell it.

    There are no numbers where those fits that tell them have less than half of the weight of all.
    """
    criteria = np.array([fit.criterion for fit in fits])
    weights = np.exp(-(criteria - criteria.min()) / 2)
    best = fits[int(np.argmax(weights))]
    telling = np.array([bool(fit.numbers) for fit in fits])
    if weights[telling].sum() < weights.sum() / 2:
        return best, []
    p = weights[telling] / weights[telling].sum()
    averages = []
    for several in zip(*(fit.numbers for fit in fits if fit.numbers), strict=True):
        values = np.array([one.value for one in several])
        mean = float(p @ values)
        variance = p @ np.array([one.error**2 for one in several]) + p @ (values - mean) ** 2
        averages.append(Measurement(mean, math.sqrt(variance)))
    return best, averages
