"""How fast a Markov chain moves between topological sectors: properties of the chain, not of the theory."""

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.autocorrelation import measure
from latflow.measurement import Measurement


def tunnelling_rate(charge: ArrayLike) -> Measurement:
    """The share of steps at which Q changes.

    Args:
        charge: the topological charge, (steps,) of one chain or (steps, chains).

    Raises:
        ValueError: as `measure`, for fewer than six steps.

    Example:
        >>> tunnelling_rate([0, 0, 1, 1, 1, 0, 0, 0] * 10 + [0]).value
        0.25
    """
    steps = np.diff(np.asarray(charge, dtype=np.float64), axis=0)
    return measure((steps != 0).astype(np.float64), name="the changes of the charge")


def charge_displacement(charge: ArrayLike, lag: int = 1) -> Measurement:
    """⟨(ΔQ)²⟩, the mean of (Q(i + t) − Q(i))² at a lag t.

    It tends to 2⟨Q²⟩ for large lags, at a rate that is the slower the rarer a chain changes its sector.

    Args:
        charge: as in `tunnelling_rate`.
        lag: t, in steps.

    Raises:
        ValueError: for a lag below 1, and as `measure`.
    """
    if lag < 1:
        raise ValueError(f"expected a lag of at least 1, got {lag}")
    history = np.asarray(charge, dtype=np.float64)
    return measure((history[lag:] - history[:-lag]) ** 2, name=f"the displacement of the charge at {lag = }")
