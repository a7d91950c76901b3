"""Figures of Markov chains: plain arrays and measurements in, a matplotlib `Figure` out."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from latflow.analysis import Autocorrelation
from latflow.figures.style import (
    BLUE,
    GREY,
    INK,
    RED,
    WIDTH,
    envelope,
    label,
    look_of,
    new_figure,
    sentence_case,
    styled,
)
from latflow.measurement import Measurement

_EXCERPT = 300


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
    source: str = "chain",
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
    figure = new_figure(WIDTH, 1.2 + 1.5 * len(series))
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
    panels[0, 0].set_title(f"{sentence_case(source)}: {number} of more than {longer_than} rejections")
    if zoomed:
        panels[0, 1].set_title(f"The longest: {length} rejections")
    for axes in panels[-1]:
        axes.set_xlabel("Markov chain step")
    return figure


@styled
def sector_history(
    number: Mapping[str, ArrayLike],
    rates: Mapping[str, Measurement],
    symbol: str = "$Q$",
    names: Mapping[int, str] | None = None,
) -> Figure:
    """A whole number of one chain of each source against its steps: all of them, and the first ones.

    Args:
        number: for each source the number at each step, (steps,), such as the topological charge Q.
        rates: for each source the share of steps at which it changes.
        symbol: of the number.
        names: of its values, where they have names.
    """
    histories = {source: np.asarray(q, dtype=np.float64) for source, q in number.items()}
    looks = look_of(histories)
    lowest = min(0.0, *(float(q.min()) for q in histories.values()))
    highest = max(1.0, *(float(q.max()) for q in histories.values()))
    if lowest < 0:  # both signs: the middle stays in the middle
        highest = max(highest, -lowest)
        lowest = -highest
    longest = max(map(len, histories.values()))
    zoomed = longest > 2 * _EXCERPT
    figure = new_figure(WIDTH, 0.7 + 1.45 * len(histories))
    panels = figure.subplots(
        len(histories),
        1 + zoomed,
        squeeze=False,
        sharex="col",
        sharey=True,
        width_ratios=[3, 2][: 1 + zoomed],
    )
    for row, (source, q) in zip(panels, histories.items(), strict=True):
        for axes, last in zip(row, (longest, _EXCERPT), strict=False):
            steps = np.arange(min(len(q), last))
            drawn = envelope(steps, q[: len(steps)])
            axes.plot(
                *drawn, color=looks[source].colour, linewidth=0.7, drawstyle="steps-mid", rasterized=True
            )
            axes.axhline(0, color=GREY, linewidth=0.6)
            axes.set_xlim(0, last)
            axes.set_ylim(lowest - 0.5, highest + 0.5)
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            if names:
                axes.set_yticks(list(names), labels=list(names.values()))
            axes.locator_params(axis="x", nbins=5)
        label(row[0], f"{sentence_case(source)}: changes at {rates[source]} of the steps", "", symbol)
        if zoomed:
            label(row[1], f"The first {_EXCERPT} steps", "", "")
    for axes in panels[-1]:
        axes.set_xlabel("Markov chain step")
    return figure


@styled
def autocorrelation_function(
    functions: Mapping[str, Autocorrelation], tau: Mapping[str, Measurement], observable: str
) -> Figure:
    """ρ(t) with its error band for each chain; what is summed to τ lies left of the dashed line.

    Args:
        functions: for each source ("model chain", "HMC chain", …) its autocorrelation function.
        tau: for each source a measurement that knows its τ.
        observable: what it is the autocorrelation of.
    """
    figure = new_figure(WIDTH if len(functions) > 1 else 0.6 * WIDTH, 2.8)
    panels = figure.subplots(1, len(functions), sharey=True, squeeze=False)[0]
    looks = look_of(functions)
    for axes, (source, function) in zip(panels, functions.items(), strict=True):
        colour, marker, _ = looks[source]
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
        label(
            axes,
            f"{sentence_case(source)}, {observable}",
            r"lag $t$ [steps]",
            r"$\rho(t)$" if axes is panels[0] else "",
        )
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
