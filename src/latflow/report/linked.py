"""Pages over many runs: tables whose rows link to the reports of runs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from latflow.report.overview import State
from latflow.report.tables import Cell, Mark

MARKS: Mapping[State, Mark] = {
    "passed": "good",
    "inconclusive": "warn",
    "failed": "bad",
    "unfinished": "warn",
    "outdated": "warn",
    "damaged": "bad",
}
"""Of the state of a run, from the best to the worst."""


@dataclass(frozen=True)
class Linked(Cell):
    """A cell with links below its text.

    Attributes:
        targets: the texts of the links, and where they lead.
    """

    targets: Sequence[tuple[str, str]] = ()


def link(text: str, page: Path, place: Path) -> list[tuple[str, str]]:
    """A link to a page where there is one.

    Args:
        text: of the link.
        page: to which it leads.
        place: the folder of the page in which it stands.
    """
    return [(text, quote(os.path.relpath(page, place)))] if page.is_file() else []
