"""How figures of latflow look, and how they are written: one dictionary of settings, used as a context."""

import functools
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from latflow.storage import replacing

Arguments = ParamSpec("Arguments")

BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#222222", "#7A7A7A"
"""Colours that stay apart for the colour-blind: M. Okabe, K. Ito, Color Universal Design (2008)."""

RED = "#C1121F"
"""For what is wrong with a chain; never beside another colour that must be told from it."""

WIDTH = 7.2
"""Of a figure that fills the page, in inches."""


class Look(NamedTuple):
    """How a source of numbers is known in every figure.

    Attributes:
        colour: of its lines and markers.
        marker: of its points.
        filled: whether its histograms are filled.
    """

    colour: str
    marker: str
    filled: bool = False


LOOKS = (
    Look(BLUE, "o", filled=True),
    Look(ORANGE, "s"),
    Look(GREEN, "D"),
    Look("#CC79A7", "^"),
    Look("#56B4E9", "v"),
    Look("#B8860B", "P"),
)
"""The looks of the sources of a figure, in their order."""


class Source(str):
    """The name of a source of numbers that looks the same in every figure, whatever stands beside it.

    Figures take names of sources as plain strings, too, and then give them looks in their order.

    Example:
        >>> look_of({Source("HMC", LOOKS[1]): 0.5})["HMC"].marker
        's'
    """

    look: Look

    def __new__(cls, name: str, look: Look) -> "Source":
        source = super().__new__(cls, name)
        source.look = look
        return source


def look_of(sources: Iterable[str]) -> dict[str, Look]:
    """The look of each source by its name: its own, or the first that is not taken yet."""
    names = list(sources)
    own = {name: name.look for name in names if isinstance(name, Source)}
    free = [look for look in LOOKS if look not in own.values()] or list(LOOKS)
    others = [name for name in names if name not in own]
    return own | {name: free[i % len(free)] for i, name in enumerate(others)}


STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "font.family": ["STIXGeneral", "DejaVu Serif", "DejaVu Sans"],  # the latter for symbols that it lacks
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
            if isinstance(figure, _Settling):
                figure.settled = True
        return figure

    return drawn


class _Settling(Figure):
    """A figure whose panels stay where they are once it has `settled`.

    Then it is drawn once for each file. With a layout engine, were it one that does nothing, matplotlib draws
    a figure twice to write it.
    """

    settled = False

    def get_layout_engine(self) -> Any:
        """The one that lays panels out; None when that is done."""
        return None if self.settled else super().get_layout_engine()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that belongs to no window and to no global state; sizes in inches."""
    figure = _Settling(figsize=(width, height))
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


def legend_below(figure: Figure, columns: int = 4) -> None:
    """One legend of all panels under them, where no curve can lie behind it; each label once."""
    entries = {}
    for axes in figure.axes:
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, handle)
    if entries:
        place = {"loc": "outside lower center", "ncols": min(columns, len(entries))}
        figure.legend(entries.values(), entries.keys(), **place)


def sentence_case(text: str) -> str:
    """A title with a capital at its beginning, whatever follows."""
    return text[:1].upper() + text[1:]


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
