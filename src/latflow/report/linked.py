"""Pages over many runs: tables whose rows link to the reports of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from latflow.report.tables import Cell


@dataclass(frozen=True)
class Linked(Cell):
    """A cell with links below its text.

    Attributes:
        links: their texts, and paths as seen from the page.
    """

    links: Sequence[tuple[str, str]] = ()

    @property
    def targets(self) -> list[tuple[str, str]]:
        """The links as a page has them: whatever is in the name of a folder."""
        return [(text, quote(path)) for text, path in self.links]
