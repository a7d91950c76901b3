"""Figures of training, weights and chains: plain arrays and measurements in, a matplotlib `Figure` out.

None of them touches the state of matplotlib, so they serve in notebooks too. All units are lattice units.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from latflow.analysis import Autocorrelation, Measurement, effective_sample_size, free_energy
from latflow.report.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    RED,
    SOURCES,
    envelope,
    label,
    new_figure,
    running_mean,
    styled,
)

_WIDTH = 7.2


@styled
def training_history(
    history: Sequence[Mapping[str, Any]], exact_free_energy: float | None = None, annealed: int = 0
) -> Figure:
    """ESS and F_q of each training step, against the step and against the wall time.

    Args:
        history: records with "step", "seconds", "ess", "f_q".
        exact_free_energy: F = −log Z, drawn as a line where it is known.
        annealed: how many of the first steps were made for a weaker action; they are shaded.

    Raises:
        ValueError: when there is no record.
    """
    if not history:
        raise ValueError("expected at least one training record, got none")
    step, seconds, ess, f_q = (
        np.array([record[name] for record in history], dtype=np.float64)
        for name in ("step", "seconds", "ess", "f_q")
    )
    unit, scale = next(
        (u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if seconds[-1] >= 3 * s or s == 1
    )
    window = max(1, min(len(step) // 25, 500))
    figure = new_figure(_WIDTH, 4.4)
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, time in zip(panels.T, (step, seconds / scale), strict=True):
        for axes, values in zip(column, (ess, f_q), strict=True):
            axes.plot(*envelope(time, values), color=BLUE, alpha=0.25, linewidth=0.5, rasterized=True)
            axes.plot(time, running_mean(values, window), color=BLUE, label=f"mean of {window} steps")
        if exact_free_energy is not None:
            column[1].axhline(exact_free_energy, color=INK, linestyle="--", linewidth=1, label=r"$F=-\log Z$")
        column[1].legend(loc="upper right")
        column[0].set_ylim(0, 1)
        if annealed:
            for axes in column:
                axes.axvspan(time[0], time[min(annealed, len(time)) - 1], color=GREY, alpha=0.12, linewidth=0)
    panels[1, 0].set_ylim(*_settled_range(f_q[annealed:] if annealed < len(f_q) else f_q, exact_free_energy))
    label(panels[0, 0], "Effective sample size", "", "ESS")
    label(panels[0, 1], "… against wall time", "", "")
    label(panels[1, 0], "Variational free energy", "training step", r"$F_q$")
    label(panels[1, 1], "… against wall time", f"wall time [{unit}]", "")
    return figure


@styled
def log_weight_histogram(log_weight: ArrayLike, source: str = "flow proposals") -> Figure:
    """Histogram of log w of draws from q: its bulk, and all of it on a logarithmic scale.

    The dashed curve is a Gaussian of the same mean and width, the upright line the estimate of log Z.

    Args:
        log_weight: log w of each draw, any shape.
        source: what the draws are called.

    Raises:
        ValueError: when weights are nan, +inf, or all zero.
    """
    values = np.asarray(log_weight, dtype=np.float64).ravel()
    ess, log_z = effective_sample_size(values), -free_energy(values).value
    values = values[np.isfinite(values)]
    mean, deviation = float(values.mean()), float(values.std())
    width = deviation if deviation > 0 else 1.0
    low, high = max(values.min(), mean - 15 * width), min(values.max(), mean + 15 * width)
    bins = np.arange(
        low - width / 2, high + width, width * float(np.clip(3.5 * len(values) ** (-1 / 3), 0.1, 1))
    )
    density, _ = np.histogram(values, bins, density=True)
    grid = np.linspace(bins[0], bins[-1], 600)
    gaussian = np.exp(-0.5 * ((grid - mean) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    figure = new_figure(_WIDTH, 3.0)
    panels = figure.subplots(1, 2)
    for axes in panels:
        axes.stairs(density, bins, fill=True, color=BLUE, alpha=0.25)
        axes.stairs(density, bins, color=BLUE, linewidth=1, label=source)
        axes.plot(grid, gaussian, color=INK, linestyle="--", linewidth=1, label="Gaussian of this width")
        axes.axvline(log_z, color=ORANGE, linewidth=1.1, label=r"estimate of $\log Z$")
    highest = max(density.max(), gaussian.max())
    panels[0].set_xlim(max(mean - 4.5 * width, bins[0]), min(mean + 4.5 * width, bins[-1]))
    panels[0].set_ylim(0, 1.1 * highest)
    panels[1].set_yscale("log")
    panels[1].set_ylim(0.5 * density[density > 0].min(), 2.5 * highest)
    numbers = [rf"\mathrm{{mean}} = {mean:.4g}", rf"\sigma = {deviation:.3g}", rf"\mathrm{{ESS}} = {ess:.3f}"]
    text = "\n".join(f"${number}$" for number in numbers)
    panels[0].text(0.03, 0.95, text, transform=panels[0].transAxes, va="top", linespacing=1.5)
    label(panels[0], "Log-weights: the bulk", r"$\log w = -S - \log q$", "density")
    label(panels[1], "All of them, logarithmic", r"$\log w = -S - \log q$", "density (log scale)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def rejection_runs(accepted: ArrayLike, longer_than: int = 100) -> list[tuple[int, int]]:
    """First and last rejected step of each run of more than `longer_than` rejections in one chain.

    Example:
        >>> rejection_runs([True, False, False, True, False], longer_than=1)
        [(1, 2)]
    """
    record = np.concatenate(([True], np.asarray(accepted, dtype=bool), [True]))
    steps = np.flatnonzero(record)
    lengths = np.diff(steps) - 1
    return [
        (int(first), int(first + length - 1))
        for first, length in zip(steps[:-1], lengths, strict=True)
        if length > longer_than
    ]


@styled
def chain_history(
    series: Mapping[str, ArrayLike],
    accepted: ArrayLike,
    longer_than: int = 100,
    source: str = "flow chain",
) -> Figure:
    """Monte Carlo history of one chain of proposals; runs of more than `longer_than` rejections are shaded.

    A long chain is drawn twice: whole, and around its longest run of rejections.

    Args:
        series: for each panel its label and the values (steps,).
        accepted: (steps,), whether each proposal was accepted.
        longer_than: rejections in a row that are not remarkable yet.
        source: what the chain is called.
    """
    steps = len(np.asarray(accepted))
    runs = rejection_runs(accepted, longer_than)
    longest = max(rejection_runs(accepted, 0), key=lambda run: run[1] - run[0], default=(0, 0))
    zoomed = steps > 1500
    spans = [(0, steps)]
    if zoomed:
        half = max(150, longest[1] - longest[0])
        start = int(np.clip(sum(longest) // 2 - half, 0, max(steps - 2 * half, 0)))
        spans.append((start, min(start + 2 * half, steps)))
    figure = new_figure(_WIDTH, 1.2 + 1.5 * len(series))
    panels = figure.subplots(
        len(series), len(spans), squeeze=False, sharex="col", sharey="row", width_ratios=[3, 2][: len(spans)]
    )
    for row, (name, values) in zip(panels, series.items(), strict=True):
        for axes, (first, last) in zip(row, spans, strict=True):
            time = np.arange(first, last)
            drawn = envelope(time, np.asarray(values)[first:last])
            axes.plot(*drawn, color=BLUE, linewidth=0.6, drawstyle="steps-mid", rasterized=True)
            for run in runs:
                axes.axvspan(run[0] - 0.5, run[1] + 0.5, color=RED, alpha=0.22, linewidth=0)
            axes.set_xlim(first, max(last - 1, first + 1))
            if np.all(np.isin(values, (-1, 1))):
                axes.set_ylim(-1.3, 1.3)
            axes.set_ylabel(name if first == spans[0][0] and axes is row[0] else "")
            axes.locator_params(axis="x", nbins=5)
    length = longest[1] - longest[0] + 1 if not all(np.asarray(accepted, dtype=bool)) else 0
    number = f"{len(runs) or 'no'} run{'' if len(runs) == 1 else 's'}"
    panels[0, 0].set_title(f"A {source}: {number} of more than {longer_than} rejections")
    if zoomed:
        panels[0, 1].set_title(f"The longest: {length} rejections")
    for axes in panels[-1]:
        axes.set_xlabel("Markov chain step")
    return figure


@styled
def autocorrelation_function(
    functions: Mapping[str, Autocorrelation], tau: Mapping[str, Measurement], observable: str = r"$|M|$"
) -> Figure:
    """ρ(t) with its error band for each chain; what is summed to τ lies left of the dashed line.

    Args:
        functions: for each source ("flow chain", "HMC", …) its autocorrelation function.
        tau: for each source a measurement that knows its τ.
        observable: what it is the autocorrelation of.
    """
    figure = new_figure(_WIDTH if len(functions) > 1 else 0.6 * _WIDTH, 2.8)
    panels = figure.subplots(1, len(functions), sharey=True, squeeze=False)[0]
    for axes, (source, function) in zip(panels, functions.items(), strict=True):
        colour, marker = SOURCES.get(source, (INK, "o"))
        rho, error = function.rho, function.rho_error
        time = np.arange(len(rho))
        few = len(rho) <= 40
        axes.fill_between(time, rho - error, rho + error, color=colour, alpha=0.25, linewidth=0)
        axes.plot(time, rho, color=colour, marker=marker if few else "", markersize=3)
        axes.axvline(function.window, color=INK, linestyle="--", linewidth=0.9)
        axes.axvspan(0, function.window, color=colour, alpha=0.06, linewidth=0)
        axes.axhline(0, color=GREY, linewidth=0.7)
        axes.set_xlim(0, max(len(rho) - 1, 1))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        label(axes, f"{source}, {observable}", r"lag $t$ [steps]", r"$\rho(t)$" if axes is panels[0] else "")
        axes.text(
            0.97,
            0.95,
            _tau_text(tau[source], function.window),
            ha="right",
            va="top",
            transform=axes.transAxes,
        )
    panels[0].set_ylim(min(-0.1, *(float((f.rho - f.rho_error).min()) for f in functions.values())), 1.05)
    return figure


def _tau_text(measurement: Measurement, window: int) -> str:
    if measurement.tau_int is None:
        return f"$\\mathrm{{window}} = {window}$"
    tau = Measurement(measurement.tau_int, measurement.tau_int_error or 0.0)
    return f"$\\tau_\\mathrm{{int}} = {tau}$\n$\\mathrm{{window}} = {window}$"


def _settled_range(f_q: np.ndarray, exact: float | None) -> tuple[float, float]:
    """Limits in which the training is seen to settle; the fall of its first fifth may lie above them."""
    finite = f_q[np.isfinite(f_q)]
    if not len(finite):
        return 0.0, 1.0
    settling = f_q[len(f_q) // 5 :]
    settling = settling[np.isfinite(settling)] if np.isfinite(settling).any() else finite
    low, high = np.quantile(settling, [0.002, 0.998])
    low = min(float(low), exact if exact is not None else math.inf)
    margin = 0.08 * (high - low) or 1.0
    return low - margin, float(high) + margin
