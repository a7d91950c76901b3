"""What the record of a Markov chain tells of the chain itself: acceptance, and where it lost its start."""

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.autocorrelation import measure
from latflow.measurement import Measurement


def acceptance(accepted: ArrayLike) -> Measurement:
    """The share of proposals that were accepted, of a record (steps,) or (steps, chains) of yes and no."""
    return measure(np.asarray(accepted, dtype=np.float64), name="the record of acceptances")


def longest_rejection_run(accepted: ArrayLike) -> int:
    """The largest number of steps in a row that a chain rejected, of a record (steps,) or (steps, chains)."""
    record = np.asarray(accepted, dtype=bool)
    chains = record.reshape(len(record), -1)
    fence = np.ones((1, chains.shape[1]), dtype=bool)
    steps = np.flatnonzero(np.concatenate((fence, chains, fence)).T)  # fences keep runs within their chain
    return int(np.diff(steps).max(initial=1)) - 1


def thermalisation_time(history: ArrayLike) -> int:
    """The step at which a history first crosses the mean of its second half.

    A chain that starts far out drifts towards equilibrium, and there fluctuates about the mean; the first
    crossing ends the drift. It is an estimate of how many steps to discard, sound if the second half is in
    equilibrium; discard a multiple of it.

    Args:
        history: one slow quantity, for example the action, of one chain (steps,) or of several
            (steps, chains), which are averaged first.

    Returns:
        The number of steps before the crossing, few for a history that starts in equilibrium, and never more
        than half its length.

    Example:
        >>> thermalisation_time([8.0, 4.0, 2.0, 1.0, 0.9, 1.1, 1.0, 1.0, 0.9, 1.1])
        3
    """
    record = np.asarray(history, dtype=np.float64)
    average = record.reshape(len(record), -1).mean(1)
    half = len(average) // 2
    above = average > average[half:].mean()
    crossed = (above != above[0])[:half]
    return int(crossed.argmax()) if crossed.any() else half
