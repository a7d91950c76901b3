"""Figures of distributions over configurations: arrays and measurements in, a matplotlib `Figure` out."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from latflow.figures.style import GREY, INK, WIDTH, label, legend_below, look_of, new_figure, styled
from latflow.measurement import Measurement


@styled
def histogram(
    samples: Mapping[str, ArrayLike],
    symbol: str = "$M$",
    *,
    notes: Mapping[str, str] | None = None,
    average: float | None = None,
    exact: tuple[np.ndarray, np.ndarray] | None = None,
    spacing: float | None = None,
    odd: bool = False,
) -> Figure:
    """Histogram over configurations of a number that each of them has, for each source.

    Args:
        samples: for each source ("model chain", "HMC chain", …) the values, any shape.
        symbol: of the number.
        notes: for each source what the legend adds to its name.
        average: the exact average, where it is known.
        exact: the values that there are and their probabilities, drawn where they are known.
        spacing: between neighbouring values where they are discrete: each bin then holds equally many.
        odd: whether both signs are on a par: the bins then lie evenly about zero.
    """
    values = {source: np.asarray(x, dtype=np.float64).ravel() for source, x in samples.items()}
    looks, notes = look_of(values), notes or {}
    bins = _bins(values, exact, spacing, odd)
    figure = new_figure(WIDTH, 3.2)
    axes = figure.subplots()
    for source, x in values.items():
        density, _ = np.histogram(x, bins, density=True)
        text = f"{source}: {notes[source]}" if source in notes else source
        if looks[source].filled:
            axes.stairs(density, bins, fill=True, color=looks[source].colour, alpha=0.25)
        axes.stairs(density, bins, color=looks[source].colour, linewidth=1.3, label=text)
    if exact is not None:
        density, _ = np.histogram(exact[0], bins, weights=exact[1] / exact[1].sum(), density=True)
        centre = (bins[1:] + bins[:-1]) / 2
        axes.plot(centre, density, color=INK, marker=".", markersize=3, linewidth=0.6, label="exact")
    if average is not None:
        text = f"exact average {average:.6f}"
        axes.axvline(average, color=INK, linestyle="--", linewidth=1, label=text)
    if odd:
        axes.axvline(0, color=GREY, linewidth=0.7)
    axes.set_ylim(bottom=0)
    label(axes, f"Distribution of {symbol}", f"{symbol} of a configuration", "density")
    legend_below(figure, columns=2)
    return figure


def _bins(
    values: Mapping[str, np.ndarray],
    exact: tuple[np.ndarray, np.ndarray] | None,
    spacing: float | None,
    odd: bool,
) -> np.ndarray:
    """Edges of bins, the finer the more values the smallest sample has."""
    low, high = min(x.min() for x in values.values()), max(x.max() for x in values.values())
    fewest = min(len(x) for x in values.values())
    number = 2 * int(np.clip(math.sqrt(fewest) / 4, 6, 40))
    if exact is not None:
        low, high = min(low, exact[0].min()), max(high, exact[0].max())
    if odd:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    if spacing is None:
        margin = 0.03 * (high - low) or 0.01
        return np.linspace(low - margin, high + margin, number + 1)
    together = max(1, round((high - low) / number / spacing))
    return np.arange(low - spacing / 2, high + spacing * together, spacing * together)


@styled
def probabilities(
    shares: Mapping[str, Mapping[Any, Measurement]],
    exact: Mapping[Any, float] | None = None,
    symbol: str = "$Q$",
) -> Figure:
    """P of each of a few values on a logarithmic scale, the sources side by side, with the exact ones.

    Args:
        shares: for each source the probability of each value, a number; those of zero have no place on the
            scale.
        exact: the exact probabilities, where they are known; those far below all shares are left out.
        symbol: of what takes these values, such as the topological charge Q.
    """
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    looks = look_of(shares)
    positions = sorted({value for of_value in shares.values() for value in of_value} | set(exact or {}))
    spacing = min(np.diff(positions), default=1.0)
    width = 0.7 / len(shares) * spacing
    for i, (source, of_value) in enumerate(shares.items()):
        seen = {value: m for value, m in of_value.items() if m.value > 0}
        low = [min(m.error, 0.9 * m.value) for m in seen.values()]  # a bar that reaches zero has no lower end
        axes.errorbar(
            [value + (i - (len(shares) - 1) / 2) * width for value in seen],
            [m.value for m in seen.values()],
            [low, [m.error for m in seen.values()]],
            color=looks[source].colour,
            marker=looks[source].marker,
            markerfacecolor="white",
            linestyle="none",
            label=source,
        )
    smallest = min((m.value for of in shares.values() for m in of.values() if m.value > 0), default=0.1)
    lowest = 0.3 * smallest
    if exact:
        shown = {value: p for value, p in exact.items() if p > lowest}
        axes.hlines(
            list(shown.values()),
            [value - 0.45 * spacing for value in shown],
            [value + 0.45 * spacing for value in shown],
            color=INK,
            linewidth=1.1,
            label="exact",
        )
    axes.set_yscale("log")
    axes.set_ylim(lowest, 2.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=all(float(x).is_integer() for x in positions)))
    label(axes, f"Distribution of {symbol}", symbol, f"$P$({symbol}) (log scale)")
    legend_below(figure)
    return figure
