"""The figure of sample configurations: plain arrays in, a matplotlib `Figure` out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from latflow.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    WIDTH,
    Look,
    look_of,
    new_figure,
    sentence_case,
    styled,
)

_OF_VALUES = (BLUE, "white", ORANGE, "#F0E442", GREEN, "#56B4E9", "#CC79A7", INK)
"""Colours of the values of a discrete field, as long as there are enough of them."""


@styled
def configurations(
    fields: Mapping[str, ArrayLike],
    columns: int = 6,
    symbol: str = r"$\phi$",
    *,
    values: Sequence[int | float] | None = None,
    cyclic: bool = False,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """A row of configurations for each source: lines in one dimension, otherwise images.

    In more than two dimensions they are the slices in which all coordinates but the last two are zero.

    Args:
        fields: for each source configurations (number, *lattice), one number a site.
        columns: the most that are drawn of each.
        symbol: what the number is called.
        values: the numbers that there are, where they are few: each then has its own colour.
        cyclic: whether the numbers are angles in (−π, π], whose colours close into a circle.
        notes: for each source a few words to each configuration, drawn in its corner.

    Raises:
        ValueError: for configurations without a dimension, or of different numbers of them.
    """
    rows = {source: np.asarray(x, dtype=np.float64)[:columns] for source, x in fields.items()}
    dimensions = {x.ndim - 1 for x in rows.values()}
    if len(dimensions) != 1 or min(dimensions) < 1:
        raise ValueError(
            f"expected fields (number, *lattice) of one dimension or more, got {sorted(dimensions)}"
        )
    (dimension,) = dimensions
    number = max(len(x) for x in rows.values())
    uneven = len({len(x) for x in rows.values()}) > 1
    height, width = next(iter(rows.values())).shape[-2:] if dimension > 1 else (0.8, 1.0)
    cell = WIDTH / number * (0.85 if dimension > 1 else 1.0)
    figure = new_figure(
        WIDTH, len(rows) * (cell * min(height / width, 2.0) + 0.35 + (0.3 if uneven else 0.0)) + 0.45
    )
    panels = figure.subplots(len(rows), number, squeeze=False, sharex=True, sharey=True)
    scale, looks = _scale(list(rows.values()), values, cyclic), look_of(rows)
    for row, (source, sample) in zip(panels, rows.items(), strict=True):
        row[0].set_title(sentence_case(source))
        for axes, x in zip(row, sample, strict=False):
            _draw_configuration(axes, x, scale, looks[source])
        for axes, text in zip(row[: len(sample)], (notes or {}).get(source, ()), strict=False):
            _write(axes, text)
        for unused in row[len(sample) :]:
            unused.set_visible(False)
        row[0].set_ylabel(symbol if dimension == 1 else f"$x_{dimension - 2}$")
    for column in panels.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("$x$" if dimension == 1 else f"$x_{dimension - 1}$")
    if dimension > 1:
        image = panels[0, 0].images[0]
        scale.mark(figure.colorbar(image, ax=panels, label=symbol, shrink=0.9, pad=0.015, aspect=25))
    return figure


@dataclass(frozen=True)
class _Scale:
    """Numbers to colours, and the ticks of both.

    Attributes:
        colours: of the numbers.
        norm: what takes numbers to the range of the colours.
        ticks: numbers that are marked, by what is written there; none leaves the choice to matplotlib.
    """

    colours: Colormap
    norm: Normalize
    ticks: Mapping[float, str]

    def mark(self, bar: Colorbar) -> None:
        """Write the ticks beside a bar of the colours."""
        if self.ticks:
            bar.set_ticks(list(self.ticks), labels=list(self.ticks.values()))
            bar.minorticks_off()


def _scale(samples: Sequence[np.ndarray], values: Sequence[int | float] | None, cyclic: bool) -> _Scale:
    if cyclic:
        ticks = {-math.pi: r"$-\pi$", 0.0: "0", math.pi: r"$\pi$"}
        return _Scale(mpl.colormaps["twilight_shifted"], Normalize(-math.pi, math.pi), ticks)
    if values is not None and len(values) > 1:
        known = sorted(float(value) for value in values)
        middles = [(one + other) / 2 for one, other in pairwise(known)]
        edges = [2 * known[0] - middles[0], *middles, 2 * known[-1] - middles[-1]]
        enough = len(known) <= len(_OF_VALUES)
        colours = (
            _OF_VALUES[: len(known)] if enough else mpl.colormaps["turbo"](np.linspace(0, 1, len(known)))
        )
        ticks = {value: f"{value:+g}" if known[0] < 0 else f"{value:g}" for value in known}
        return _Scale(
            ListedColormap(list(colours)),
            BoundaryNorm(edges, len(known)),
            {value: text.replace("-", "−").replace("+0", "0") for value, text in ticks.items()},
        )
    largest = max(float(np.quantile(np.abs(x), 0.995)) for x in samples) or 1.0
    return _Scale(mpl.colormaps["RdBu_r"], Normalize(-largest, largest), {})


def _draw_configuration(axes: Axes, x: np.ndarray, scale: _Scale, look: Look) -> None:
    axes.grid(False)
    if x.ndim == 1:
        axes.plot(np.arange(len(x)), x, color=look.colour, marker="o", markersize=2, linewidth=0.9)
        axes.axhline(0, color=GREY, linewidth=0.6)
        if scale.ticks:
            axes.set_yticks(list(scale.ticks), labels=list(scale.ticks.values()))
    else:
        image = x[(0,) * (x.ndim - 2)]
        axes.imshow(image, norm=scale.norm, cmap=scale.colours, origin="lower", interpolation="nearest")
        axes.set_box_aspect(image.shape[0] / image.shape[1])
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))


def _write(axes: Axes, text: str) -> None:
    backed = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    axes.text(0.04, 0.95, text, transform=axes.transAxes, va="top", fontsize=8, bbox=backed)
