"""How figures of latflow look, and how they are written: one dictionary of settings, used as a context."""

import functools
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from latflow.storage import replacing
from latflow.validation import BESIDE, CHAINS, MODELS

Arguments = ParamSpec("Arguments")

BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#222222", "#7A7A7A"
"""Colours that stay apart for the colour-blind: M. Okabe, K. Ito, Color Universal Design (2008)."""

RED = "#C1121F"
"""For what is wrong with a chain; never beside another colour that must be told from it."""

OF_MODELS = tuple(f"{mover} chain" for mover in CHAINS)
"""The Markov chains of what was trained, as sources of numbers."""

SOURCES = {
    **dict.fromkeys(OF_MODELS, (BLUE, "o")),
    **dict.fromkeys(BESIDE, (ORANGE, "s")),
    **{f"{model} proposals": (GREEN, "D") for model in MODELS},
}
"""The colour and the marker by which each source of numbers is known in every figure."""

STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.formatter.limits": (-4, 5),
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
    "legend.fontsize": 9,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "image.cmap": "RdBu_r",
    "pdf.fonttype": 42,
}
"""What differs from the settings of matplotlib; `styled` applies it, and nothing is changed globally."""


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """The function that draws a figure, in the style of latflow."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            # ticks are made and panels laid out at the first drawing, which must not miss the style
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        return figure

    return drawn


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that belongs to no window and to no global state; sizes in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the suffix names (.png, .pdf, .svg), whole or not at all."""
    # a date would make every rewrite of the same figure a new file
    metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix, {})
    with mpl.rc_context(STYLE), replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """Title and both axis labels of a panel."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def envelope(x: ArrayLike, y: ArrayLike, bins: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """A line through the lowest and the highest point of each bin: it looks like the whole series."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(y) <= 4 * bins:
        return x, y
    edges = np.linspace(0, len(y), bins + 1).astype(int)
    picked = [
        first + index
        for first, last in pairwise(edges)
        for index in sorted((int(np.argmin(y[first:last])), int(np.argmax(y[first:last]))))
    ]
    return x[picked], y[picked]


def running_mean(y: ArrayLike, window: int) -> np.ndarray:
    """The mean over `window` neighbours, fewer at the ends; values that are not finite are left out."""
    y = np.asarray(y, dtype=np.float64)
    known = np.isfinite(y)
    sums = np.concatenate(([0.0], np.cumsum(np.where(known, y, 0.0))))
    counts = np.concatenate(([0], np.cumsum(known)))
    centre = np.arange(len(y))
    first, last = np.maximum(centre - window // 2, 0), np.minimum(centre + (window + 1) // 2, len(y))
    last = np.maximum(last, first + 1)
    number = counts[last] - counts[first]
    return np.where(number > 0, (sums[last] - sums[first]) / np.maximum(number, 1), np.nan)
