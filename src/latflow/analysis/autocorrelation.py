"""Errors of averages over Markov chains and over weighted draws, and of functions of such averages.

Markov chains go through the Γ-method of pyerrors: one replica a chain, fluctuations about the mean of all
chains. (A mean for each chain would hide that chains disagree, and bias ρ by −2τ/steps.) A function of
averages is linearised, so that its error is that of one projected series, as in U. Wolff, Monte Carlo errors
with less errors, hep-lat/0306017, section 2.

What a series cannot tell is told by the `warning` of its measurement: a series that never moved has no error,
nan, and one of fewer than 50 τ numbers has an error that is likely too small.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.averages import averaged, linearised
from latflow.errors import UnreliableErrorWarning
from latflow.measurement import Measurement

CONSTANT = "constant"
"""The warning of a series that is the same number throughout."""

_STILL = "no chain moved"
_LEAST_TIMES_TAU = 50
"""A series of so many τ knows τ, and so its error, to about a fifth."""
LEAST_STEPS_WITH_TAIL = 8
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
    tau_exp: float = 0.0,
) -> Measurement:
    """The average of a series, with its error.

    Without weights the series is the history of Markov chains, and the error includes their autocorrelation,
    error² = 2τ Γ(0)/N. With weights it holds independent draws from q, and the average is that over the
    target, ⟨O⟩ = Σ w O / Σ w, error² = Σ (w/w̄)² (O − ⟨O⟩)² / (N(N−1)).

    With a factor σ, in a chain as among draws, the average is the ratio ⟨Oσ⟩/⟨σ⟩. Its error is that of the
    linearised ratio, the mean of σ (O − ⟨O⟩)/⟨σ⟩, so it knows how Oσ and σ vary together.

    The window of the Γ-method takes ρ(t) for positive. Where a chain alternates, ρ(1) being smaller than ρ(2)
    by three standard deviations, 3√(2/N), it is applied to e_i = O_i + b O_{i−1}, b = max(−ρ(1), √ρ(2)),
    whose mean is (1 + b)⟨O⟩ and whose spectrum near frequency ½ is suppressed; τ may then be below ½, down to
    the 1/(2 steps) of a chain that alternates without fail.

    A mode of the chain slower than the window may hide in the tail of ρ. With the time τ_exp of the slowest
    mode, the tail beyond the window W, at which ρ falls below its error, is bounded by that mode alone:

        τ = ½ + Σ_{t=1}^{W} ρ(t) + τ_exp |ρ(W + 1)|

    and the larger of the two errors, with and without, is given. Less than eight steps have no such tail.

    Args:
        series: (steps,) of one chain, or (steps, chains).
        log_weight: the log of the importance weight of each draw, up to a constant; the shape of `series`.
        name: what the series is, for error messages.
        factor: σ of each entry, of either sign, such as the sign of a determinant; the shape of `series`.
        tau_exp: τ_exp of the slowest mode of the chain, in steps: for example the largest τ of all that was
            recorded of it.

    Returns:
        Its `warning` tells of a series that is constant or of which no chain moved, whose error is nan; of
        single chains that stand where no other comes by; and of fewer than 50 τ numbers.

    Warns:
        UnreliableErrorWarning: for a warning beside an error that is a number.

    Raises:
        ValueError: for a wrong shape or too few steps, when weights are nan, +inf, or all zero, when the
            factors average to zero, and when τ_exp is no time.

    Sources: U. Wolff, Monte Carlo errors with less errors, hep-lat/0306017; for the filter D. W. K. Andrews
    and J. C. Monahan, Econometrica 60 (1992) 953; for the tail S. Schaefer, R. Sommer, F. Virotta, Critical
    slowing down and error analysis in lattice QCD simulations, Nucl. Phys. B 845 (2011) 93, arXiv:1009.5228.

    Example:
        >>> print(measure([0.9, 1.1, 1.0, 0.9, 1.1, 1.0, 0.9, 1.1] * 5))
        1.000(14)
    """
    average = averaged(series, log_weight, factor, name, dimensions=2)
    found = _measurement(
        float(average.mean[0]),
        average.fluctuation[..., 0],
        _stillness([average.history], log_weight is not None),
        independent=log_weight is not None,
        tau_exp=tau_exp,
    )
    _tell(name, [found])
    return found


def derive(
    function: Callable[..., Any],
    *series: ArrayLike,
    log_weight: ArrayLike | None = None,
    factor: ArrayLike | None = None,
    tau_exp: float = 0.0,
) -> Measurement:
    """A function of the averages of several series of one history, errors propagated with all correlations.

    Args:
        function: takes one number for each series, or one array for a series with components; returns a
            number.
        series: (steps,), (steps, chains), or (steps, chains, components) each.
        log_weight: as in `measure`.
        factor: as in `measure`; every average is reweighted with it.
        tau_exp: as in `measure`.

    Warns:
        UnreliableErrorWarning: as `measure`.

    Raises:
        ValueError: as in `measure`, and when the series differ in steps or chains.

    Example:
        >>> x = np.array([1.0, -1.0, 2.0, -2.0, 1.0, -1.0, 2.0, -2.0] * 5)
        >>> print(derive(lambda m2, m4: 1 - m4 / (3 * m2**2), x**2, x**4))
        0.547(24)
    """
    (measurement,) = derive_vector(function, *series, log_weight=log_weight, factor=factor, tau_exp=tau_exp)
    return measurement


def derive_vector(
    function: Callable[..., Any],
    *series: ArrayLike,
    log_weight: ArrayLike | None = None,
    factor: ArrayLike | None = None,
    tau_exp: float = 0.0,
) -> list[Measurement]:
    """`derive` for a function that returns an array of numbers, for example the effective masses."""
    averages = [
        averaged(part, log_weight, factor, f"series {i}", dimensions=3) for i, part in enumerate(series)
    ]
    values, projected = linearised(function, averages)
    still = _stillness([average.history for average in averages], log_weight is not None)
    del averages  # of a long chain they take much memory
    found = [
        _measurement(float(value), projected[..., i], still, log_weight is not None, tau_exp)
        for i, value in enumerate(values)
    ]
    _tell("a function of the series", found)
    return found


def autocorrelation(series: ArrayLike, max_lag: int | None = None) -> Autocorrelation:
    """The normalised autocorrelation function ρ(t), with errors after M. Lüscher, hep-lat/0409106, eq. E.11.

    Args:
        series: (steps,) of one chain, or (steps, chains).
        max_lag: the largest lag returned; three windows if None. Never more than half the steps.

    Raises:
        ValueError: for a wrong shape, too few steps, or numbers that are not finite.
    """
    fluctuation = averaged(series, None, None, "the series", dimensions=2).fluctuation[..., 0]
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


@cache
def load_pyerrors() -> ModuleType:
    """pyerrors, imported at first use: it takes seconds, warns of others, and changes how numpy prints."""
    with np.printoptions(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyerrors
    return pyerrors


def _gamma_method(fluctuation: np.ndarray, tau_exp: float = 0.0) -> Any:
    """The `Obs` of fluctuations about the common mean, (steps, chains), after the Γ-method with S = 2."""
    chains = fluctuation.shape[1]
    names = [f"{_ENSEMBLE}|{i:08d}" for i in range(chains)]
    # with `means`, pyerrors takes the samples for fluctuations and does not subtract the mean of each chain
    observable = load_pyerrors().Obs(list(np.ascontiguousarray(fluctuation.T)), names, means=[0.0] * chains)
    observable.gamma_method(S=2.0, tau_exp=tau_exp)
    return observable


class _Error(NamedTuple):
    """The error of the mean of fluctuations that are not all zero, τ with its error, and the window."""

    error: float
    tau_int: float
    tau_int_error: float
    window: int


def _error(fluctuation: np.ndarray, tau_exp: float) -> _Error:
    """By the Γ-method, of the fluctuations (steps, chains) or of what is filtered from them."""
    observable = _gamma_method(fluctuation)
    share = _alternation(observable.e_rho[_ENSEMBLE], fluctuation.size)
    taken = fluctuation
    if share:
        taken = fluctuation[1:] + share * fluctuation[:-1]
        observable = _gamma_method(taken)
    if tau_exp > 0 and len(taken) >= LEAST_STEPS_WITH_TAIL:
        observable = max(observable, _gamma_method(taken, tau_exp), key=lambda one: one.dvalue)
    variance = float(np.mean(fluctuation**2))
    # of τ that of the filtered mean, 1 + b times too large, in units of the variance of the series
    scale = float(np.mean(taken**2)) / variance / (1 + share) ** 2
    tau_int = scale * float(observable.e_tauint[_ENSEMBLE])
    error = float(observable.dvalue) * math.sqrt(len(taken) / len(fluctuation)) / (1 + share)
    # the ends of a chain that alternates without fail leave a step unpaired
    least = 1 / (2 * len(fluctuation)) if share else 0.0
    return _Error(
        max(error, math.sqrt(2 * least * variance / fluctuation.size)),
        max(tau_int, least),
        scale * float(observable.e_dtauint[_ENSEMBLE]),
        int(observable.e_windowsize[_ENSEMBLE]),
    )


def _alternation(rho: np.ndarray, n: int) -> float:
    """b of the filter that suppresses what alternates; 0 where ρ(1) ≥ ρ(2) within three of its errors."""
    if len(rho) < 3 or not rho[2] - rho[1] > 3 * math.sqrt(2 / n):
        return 0.0
    return min(max(-float(rho[1]), math.sqrt(max(float(rho[2]), 0.0))), 1.0)


def _stillness(histories: Sequence[np.ndarray], independent: bool) -> str:
    """Which chains never moved, in words, of series (steps, chains, components); nothing where all did.

    A chain may rest at a number of few, such as zero for the charge, and be sound: what counts among chains
    that move is one that stands where none of them comes by.
    """
    if all((history == history[0, 0]).all() for history in histories):
        return CONSTANT
    if independent:
        return ""
    still = np.logical_and.reduce([(history == history[0]).all((0, 2)) for history in histories])
    if still.all():
        return _STILL
    apart = [~np.isin(one[0, still, 0], one[:, ~still, 0]) for one in histories] if still.any() else []
    alone = int(np.logical_or.reduce(apart).sum()) if apart else 0
    return f"{alone} of {len(still)} chains never moved" if alone else ""


def _measurement(
    value: float, fluctuation: np.ndarray, still: str, independent: bool, tau_exp: float
) -> Measurement:
    """A value whose error is that of the mean of `fluctuation`, shape (steps, chains)."""
    if not 0 <= tau_exp < math.inf:
        raise ValueError(f"expected tau_exp of zero or more steps, got {tau_exp}")
    n, scale = fluctuation.size, float(np.abs(fluctuation).max())
    if not np.isfinite(scale):
        return Measurement(value, np.nan, n=n)
    if still == CONSTANT:
        return Measurement(value, np.nan, n=n, warning=still)
    if independent:
        return Measurement(value, float(np.linalg.norm(fluctuation) / np.sqrt(n * (n - 1))), n=n)
    if scale == 0:
        return Measurement(value, 0.0, tau_int=0.5, tau_int_error=0.0, window=0, n=n)
    # pyerrors takes very small fluctuations for none
    error, tau_int, tau_int_error, window = _error(fluctuation / scale, tau_exp)
    needed = math.ceil(_LEAST_TIMES_TAU * tau_int)
    short = f"{n} numbers, fewer than 50 τ: at least {needed} would do" if n < needed else ""
    return Measurement(
        value=value,
        error=math.nan if still == _STILL else scale * error,
        tau_int=tau_int,
        tau_int_error=tau_int_error,
        window=window,
        n=n,
        warning=still or short,
    )


def _tell(name: str, found: Sequence[Measurement]) -> None:
    """Warn, in the name of who called the caller, of errors that look sounder than they are."""
    doubtful = {one.warning: None for one in found if one.warning and math.isfinite(one.error)}
    for warning in doubtful:
        warnings.warn(
            f"the error of {name} is not to be trusted: {warning}", UnreliableErrorWarning, stacklevel=3
        )
