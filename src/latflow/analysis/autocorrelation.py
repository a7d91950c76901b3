"""Errors of averages over Markov chains and over weighted draws, and of functions of such averages.

Markov chains go through the Γ-method of pyerrors: one replica a chain, fluctuations about the mean of all
chains. (A mean for each chain would hide that chains disagree, and bias ρ by −2τ/steps.) A function of
averages is linearised, so that its error is that of one projected series, as in U. Wolff, Monte Carlo errors
with less errors, hep-lat/0306017, section 2.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.weights import scaled_weight
from latflow.measurement import Measurement

_LEAST_STEPS = 5
_ENSEMBLE = "chain"


class Autocorrelation(NamedTuple):
    """ρ(t) for lags t = 0, 1, …, its standard error, and the lag at which the sum for τ ends."""

    rho: np.ndarray
    rho_error: np.ndarray
    window: int


def measure(
    series: ArrayLike,
    log_weight: ArrayLike | None = None,
    name: str = "the series",
    factor: ArrayLike | None = None,
) -> Measurement:
    """The average of a series, with its error.

    Without weights the series is the history of Markov chains, and the error includes their autocorrelation,
    error² = 2τ Γ(0)/N. With weights it holds independent draws from q, and the average is that over the
    target, ⟨O⟩ = Σ w O / Σ w, error² = Σ (w/w̄)² (O − ⟨O⟩)² / (N(N−1)).

    With a factor σ, in a chain as among draws, the average is the ratio ⟨Oσ⟩/⟨σ⟩. Its error is that of the
    linearised ratio, the mean of σ (O − ⟨O⟩)/⟨σ⟩, so it knows how Oσ and σ vary together.

    Args:
        series: (steps,) of one chain, or (steps, chains).
        log_weight: the log of the importance weight of each draw, up to a constant; the shape of `series`.
        name: what the series is, for error messages.
        factor: σ of each entry, of either sign, such as the sign of a determinant; the shape of `series`.

    Raises:
        ValueError: for a wrong shape or too few steps, when weights are nan, +inf, or all zero, and when
            the factors average to zero.

    Example:
        >>> print(measure([0.9, 1.1, 1.0, 0.9, 1.1, 1.0, 0.9, 1.1]))
        1.000(36)
    """
    average = _average(series, log_weight, factor, name, dimensions=2)
    return _measurement(
        float(average.mean[0]), average.fluctuation[..., 0], independent=log_weight is not None
    )


def derive(
    function: Callable[..., Any],
    *series: ArrayLike,
    log_weight: ArrayLike | None = None,
    factor: ArrayLike | None = None,
) -> Measurement:
    """A function of the averages of several series of one history, errors propagated with all correlations.

    Args:
        function: takes one number for each series, or one array for a series with components; returns a
            number.
        series: (steps,), (steps, chains), or (steps, chains, components) each.
        log_weight: as in `measure`.
        factor: as in `measure`; every average is reweighted with it.

    Raises:
        ValueError: as in `measure`, and when the series differ in steps or chains.

    Example:
        >>> x = np.array([1.0, -1.0, 2.0, -2.0, 1.0, -1.0, 2.0, -2.0])
        >>> print(derive(lambda m2, m4: 1 - m4 / (3 * m2**2), x**2, x**4))
        0.547(65)
    """
    (measurement,) = derive_vector(function, *series, log_weight=log_weight, factor=factor)
    return measurement


def derive_vector(
    function: Callable[..., Any],
    *series: ArrayLike,
    log_weight: ArrayLike | None = None,
    factor: ArrayLike | None = None,
) -> list[Measurement]:
    """`derive` for a function that returns an array of numbers, for example the effective masses."""
    averages = [
        _average(part, log_weight, factor, f"series {i}", dimensions=3) for i, part in enumerate(series)
    ]
    if len({average.fluctuation.shape[:2] for average in averages}) != 1:
        raise ValueError(f"expected series of one history, got shapes {[np.shape(part) for part in series]}")
    values, gradients = _linearised(function, averages)
    projected = sum(
        average.fluctuation @ gradient for average, gradient in zip(averages, gradients, strict=True)
    )
    return [
        _measurement(float(value), np.asarray(projected)[..., i], independent=log_weight is not None)
        for i, value in enumerate(values)
    ]


def autocorrelation(series: ArrayLike, max_lag: int | None = None) -> Autocorrelation:
    """The normalised autocorrelation function ρ(t), with errors after M. Lüscher, hep-lat/0409106, eq. E.11.

    Args:
        series: (steps,) of one chain, or (steps, chains).
        max_lag: the largest lag returned; three windows if None. Never more than half the steps.

    Raises:
        ValueError: for a wrong shape, too few steps, or numbers that are not finite.
    """
    fluctuation = _average(series, None, None, "the series", dimensions=2).fluctuation[..., 0]
    scale = float(np.abs(fluctuation).max())
    if not math.isfinite(scale):
        raise ValueError("expected a series of finite numbers, got nan or infinity among them")
    if scale == 0:
        return Autocorrelation(np.ones(1), np.zeros(1), 0)
    observable = _gamma_method(fluctuation / scale)
    window, rho = int(observable.e_windowsize[_ENSEMBLE]), observable.e_rho[_ENSEMBLE]
    lags = min(max_lag if max_lag is not None else 3 * window, len(rho) - 1) + 1
    cut = 2 * window + 1
    known = np.zeros(2 * lags + 2 * cut)
    known[: min(cut, len(rho))] = rho[:cut]
    k = np.arange(1, lags + cut)
    variance = [
        np.sum((known[k + t] + known[abs(k - t)] - 2 * known[k] * known[t]) ** 2) / fluctuation.size
        for t in range(lags)
    ]
    return Autocorrelation(rho[:lags], np.sqrt(variance), window)


class _Average(NamedTuple):
    """The mean (components,), and fluctuations (steps, chains, components) whose mean has the error of it."""

    mean: np.ndarray
    fluctuation: np.ndarray
    scalar: bool

    def argument(self, mean: np.ndarray) -> Any:
        """What a function of averages is given: a number, or an array for a series with components."""
        return float(mean[0]) if self.scalar else mean


def _average(
    series: ArrayLike,
    log_weight: ArrayLike | None,
    factor: ArrayLike | None,
    name: str,
    dimensions: int,
) -> _Average:
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
        return _Average(origin + mean, centred - mean, scalar)
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
    return _Average(origin + mean, weight * (centred - mean), scalar)


def _linearised(
    function: Callable[..., Any], averages: list[_Average]
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
        for i, (mean, fluctuation, _) in enumerate(averages):
            error = np.linalg.norm(fluctuation, axis=(0, 1)) / math.prod(fluctuation.shape[:2])
            step = np.maximum(error / 10, 1e-7 * np.abs(mean))
            gradient = np.zeros((len(mean), len(values)))
            for j in np.flatnonzero(error).tolist():
                gradient[j] = (evaluate(i, j, +step[j]) - evaluate(i, j, -step[j])) / (2 * step[j])
            gradients.append(gradient)
    return values, gradients


@cache
def _pyerrors() -> ModuleType:
    """pyerrors, imported at first use: it takes seconds, warns of others, and changes how numpy prints."""
    with np.printoptions(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyerrors
    return pyerrors


def _gamma_method(fluctuation: np.ndarray) -> Any:
    """The `Obs` of fluctuations about the common mean, (steps, chains), after the Γ-method with S = 2."""
    chains = fluctuation.shape[1]
    names = [f"{_ENSEMBLE}|{i:08d}" for i in range(chains)]
    # with `means`, pyerrors takes the samples for fluctuations and does not subtract the mean of each chain
    observable = _pyerrors().Obs(list(np.ascontiguousarray(fluctuation.T)), names, means=[0.0] * chains)
    observable.gamma_method(S=2.0)
    return observable


def _measurement(value: float, fluctuation: np.ndarray, independent: bool) -> Measurement:
    """A value whose error is that of the mean of `fluctuation`, shape (steps, chains)."""
    n, scale = fluctuation.size, float(np.abs(fluctuation).max())
    if not np.isfinite(scale):
        return Measurement(value, np.nan, n=n)
    if independent:
        return Measurement(value, float(np.linalg.norm(fluctuation) / np.sqrt(n * (n - 1))), n=n)
    if scale == 0:
        return Measurement(value, 0.0, tau_int=0.5, tau_int_error=0.0, window=0, n=n)
    observable = _gamma_method(fluctuation / scale)  # pyerrors takes very small fluctuations for none
    return Measurement(
        value=value,
        error=scale * float(observable.dvalue),
        tau_int=float(observable.e_tauint[_ENSEMBLE]),
        tau_int_error=float(observable.e_dtauint[_ENSEMBLE]),
        window=int(observable.e_windowsize[_ENSEMBLE]),
        n=n,
    )
