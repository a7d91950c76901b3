"""Averages of series with the fluctuations whose mean has their error, and functions of such averages."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.weights import scaled_weight

_LEAST_STEPS = 5


class Averaged(NamedTuple):
    """The mean (components,), and fluctuations (steps, chains, components) whose mean has the error of it.

    The history, of the shape of the fluctuations, is that of which it is the mean.
    """

    mean: np.ndarray
    fluctuation: np.ndarray
    history: np.ndarray
    scalar: bool

    def argument(self, mean: np.ndarray) -> Any:
        """What a function of averages is given: a number, or an array for a series with components.

        A number of NumPy divides by zero without an exception.
        """
        return mean[0] if self.scalar else mean


def averaged(
    series: ArrayLike,
    log_weight: ArrayLike | None,
    factor: ArrayLike | None,
    name: str,
    dimensions: int,
) -> Averaged:
    """The (weighted) average over steps and chains of a series of at most so many dimensions."""
    history = np.asarray(series, dtype=np.float64)
    if not 1 <= history.ndim <= dimensions:
        shapes = ["(steps,)", "(steps, chains)", "(steps, chains, components)"][:dimensions]
        raise ValueError(f"expected {name} of shape {' or '.join(shapes)}, got {history.shape}")
    scalar = history.ndim < 3
    history = history.reshape(*history.shape, *(1,) * (3 - history.ndim))
    steps, chains, _ = history.shape
    least, found, unit = (
        (_LEAST_STEPS, steps, "steps") if log_weight is None else (2, steps * chains, "draws")
    )
    if found < least or not history.size:
        raise ValueError(
            f"expected {name} to have at least {least} {unit} for an error analysis, got {found}"
        )

    origin = history[0, 0]  # a constant series then has fluctuations that are exactly zero
    centred = history - origin
    if log_weight is None and factor is None:
        mean = centred.mean((0, 1))
        centred -= mean  # in place: of a long chain each copy takes much memory
        return Averaged(origin + mean, centred, history, scalar)
    weight = np.ones((steps, chains, 1))
    parts = {
        "log-weights": None if log_weight is None else scaled_weight(log_weight),
        "factors": None if factor is None else np.asarray(factor, dtype=np.float64),
    }
    for what, part in parts.items():
        if part is None:
            continue
        if (*part.shape, 1)[:2] != (steps, chains):
            raise ValueError(f"expected {what} of shape {(steps, chains)} for {name}, got {part.shape}")
        weight = weight * part.reshape(steps, chains, 1)
    if weight.mean() == 0:
        raise ValueError(f"expected factors for {name} whose average is not zero")
    weight = weight / weight.mean()
    mean = (weight * centred).mean((0, 1))
    centred -= mean
    centred *= weight
    return Averaged(origin + mean, centred, history, scalar)


def linearised(function: Callable[..., Any], averages: Sequence[Averaged]) -> tuple[np.ndarray, np.ndarray]:
    """A function at averages over one history, (outputs,), and its fluctuations, (steps, chains, outputs).

        f(⟨O⟩),    Σ_i ∂f/∂⟨O_i⟩ (O_i − ⟨O_i⟩)

    Raises:
        ValueError: when the averages are of several histories.
    """
    if len({average.fluctuation.shape[:2] for average in averages}) != 1:
        shapes = [average.history.shape for average in averages]
        raise ValueError(f"expected series of one history, got shapes {shapes}")
    values, gradients = _gradients(function, averages)
    projected = averages[0].fluctuation @ gradients[0]
    for average, gradient in zip(averages[1:], gradients[1:], strict=True):
        projected += average.fluctuation @ gradient  # one at a time: of long chains each takes much memory
    return values, projected


def _gradients(
    function: Callable[..., Any], averages: Sequence[Averaged]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The function at the averages, and its gradient (components, outputs) with respect to each.

    The gradient is taken by symmetric differences over a tenth of the naive error of the component.
    """
    means = [average.mean for average in averages]

    def evaluate(argument: int, component: int, shift: float) -> np.ndarray:
        moved = [mean.copy() for mean in means]
        moved[argument][component] += shift
        arguments = [average.argument(mean) for average, mean in zip(averages, moved, strict=True)]
        return np.atleast_1d(np.asarray(function(*arguments), dtype=np.float64))

    with np.errstate(all="ignore"):
        values, gradients = evaluate(0, 0, 0.0), []
        for i, (mean, fluctuation, *_) in enumerate(averages):
            error = np.linalg.norm(fluctuation, axis=(0, 1)) / math.prod(fluctuation.shape[:2])
            step = np.maximum(error / 10, 1e-7 * np.abs(mean))
            gradient = np.zeros((len(mean), len(values)))
            for j in np.flatnonzero(error).tolist():
                gradient[j] = (evaluate(i, j, +step[j]) - evaluate(i, j, -step[j])) / (2 * step[j])
            gradients.append(gradient)
    return values, gradients
