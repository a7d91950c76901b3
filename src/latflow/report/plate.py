"""What a plate is: a figure with its words, and what draws it."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from latflow.report.material import Material


@dataclass(frozen=True)
class Plate:
    """A figure with its words.

    Attributes:
        name: of its files.
        title: its heading.
        figure: None when it cannot be drawn, which `caption` then explains.
        alt: what it shows, for those who do not see it.
        caption: what to look for.
    """

    name: str
    title: str
    figure: Figure | None
    alt: str
    caption: str


Built = tuple[Figure, str, str]
"""A figure, its alternative text, its caption."""

Builder = Callable[[Material], Built]
"""Draws a plate, or raises what then stands in its place."""
