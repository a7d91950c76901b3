"""What an experiment has found, as data that is kept, and as the pages that are made of it."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from latflow.analysis import Measurement
from latflow.errors import CheckpointError
from latflow.storage import write_text

RESULTS = "results.json"
"""The name of the file in the folder of an experiment."""

_PLACE = re.compile(r"\{\{ *([a-z0-9-]+)\.([a-z]+)(?:\.([\w -]+?))? *\}\}")


@dataclass(frozen=True)
class Number:
    """A number and how it is printed.

    Attributes:
        value: in full precision.
        text: what a table says, "9.98" or "> 218(35)".
        error: the standard error; None for a number without one.
    """

    value: float
    text: str
    error: float | None = None

    def __str__(self) -> str:
        return self.text


Cell = str | int | Number | Measurement
"""What stands in a table, or in a text."""


def number(value: float, form: str) -> Number:
    """A number that is printed as Python's format says.

    >>> print(number(0.31498, ".3f"))
    0.315
    """
    return Number(float(value), f"{value:{form}}")


@dataclass(frozen=True)
class Table:
    """Numbers side by side.

    Attributes:
        name: by which a page asks for it.
        head: of the columns.
        rows: as many cells each.
        caption: a sentence above it.
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"expected {len(self.head)} cells in each row of {self.name!r}")

    def __str__(self) -> str:
        """The table in markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        escaped = [
            [str(cell).replace("|", r"\|") for cell in line] for line in lines
        ]  # of |M|, not of the table
        table = "\n".join("| " + " | ".join(line) + " |" for line in escaped)
        return f"{self.caption}\n\n{table}" if self.caption else table


@dataclass(frozen=True)
class Results:
    """All that an experiment has found but its figures, which lie beside it.

    Attributes:
        experiment: its name on the command line.
        title: what it shows.
        source: the paper.
        settings: that it was made with, plain values.
        seed: from which its random numbers came; None where it is not known any more.
        quick: whether the settings were those that only show that it runs.
        made: when, on what machine, with which versions.
        text: a few sentences, in which $name stands for one of the numbers.
        numbers: of the text, by name.
        tables: the rest of them.
        figures: names of the files without their suffix.
    """

    experiment: str
    title: str
    source: str
    settings: Mapping[str, Any]
    seed: int | None
    quick: bool
    made: Mapping[str, Any]
    text: str
    numbers: Mapping[str, Cell] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    figures: Sequence[str] = ()

    @property
    def prose(self) -> str:
        """The text with its numbers."""
        return Template(self.text).substitute({name: str(cell) for name, cell in self.numbers.items()})

    @property
    def circumstances(self) -> str:
        """When, on what and with what it was made, in a line."""
        return "; ".join(f"{name}: {value}" for name, value in self.made.items()) + "."

    def page(self) -> str:
        """A page in markdown, to lie in the folder of the experiment."""
        pictures = [f"![{name}]({name}.png)" for name in self.figures]
        head = [f"# {self.title}", f"{self.source}.", self.prose]
        return "\n\n".join([*head, *map(str, self.tables), *pictures, self.circumstances]) + "\n"

    def at(self, part: str, name: str | None) -> str:
        """What a page asks for: text, tables or made, or by name one of the tables, settings or numbers.

        Raises:
            KeyError: for anything else.
        """
        whole = {"text": self.prose, "tables": "\n\n".join(map(str, self.tables)), "made": self.circumstances}
        if name is None:
            return whole[part]
        named = {
            "tables": {table.name: table for table in self.tables},
            "settings": self.settings,
            "numbers": self.numbers,
        }
        return str(named[part][name])

    def save(self, path: Path) -> None:
        """Write everything as JSON, whole or not at all."""
        tree = asdict(self)
        tree["numbers"] = {name: _plain(cell) for name, cell in self.numbers.items()}
        tree["tables"] = [
            {"name": table.name, "caption": table.caption, "head": list(table.head)}
            | {"rows": [[_plain(cell) for cell in row] for row in table.rows]}
            for table in self.tables
        ]
        write_text(path, _lines(tree) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Results":
        """What `save` has written.

        Raises:
            CheckpointError: for a file that is missing, or holds something else.
        """
        if not path.is_file():
            raise CheckpointError(
                f"expected the results of an experiment at {path}, found none: is it finished?"
            )
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            tree["numbers"] = {name: _cell(plain) for name, plain in tree["numbers"].items()}
            tree["tables"] = [
                Table(**table | {"rows": [[_cell(plain) for plain in row] for row in table["rows"]]})
                for table in tree["tables"]
            ]
            return cls(**tree)
        except (ValueError, LookupError, TypeError) as error:
            raise CheckpointError(
                f"{path} is damaged, or holds no results of an experiment ({error}): remove it, and do the "
                "experiment again, which keeps its finished parts"
            ) from error


def filled(markdown: str, folder: Path) -> str:
    """A page in which {{ NAME.PART }} and {{ NAME.PART.KEY }} stand for results, as `Results.at` has them.

    Args:
        markdown: the page.
        folder: with a file NAME.json of each experiment.

    Raises:
        CheckpointError: for an experiment without results there, or results without such a part.
    """
    known: dict[str, Results] = {}

    def found(place: re.Match[str]) -> str:
        name, part, key = place.groups()
        if name not in known:
            known[name] = Results.load(folder / f"{name}.json")
        try:
            return known[name].at(part, key)
        except KeyError as error:
            raise CheckpointError(f"expected {place[0]} in {folder / name}.json, found no {error}") from error

    return _PLACE.sub(found, markdown)


def _plain(cell: Cell) -> Any:
    """A cell as JSON has it; what is not finite has no other form there than its text."""
    if isinstance(cell, Measurement):
        cell = Number(cell.value, str(cell), cell.error)
    if not isinstance(cell, Number):
        return cell
    if not all(math.isfinite(one) for one in (cell.value, cell.error or 0.0)):
        return cell.text
    return {name: value for name, value in asdict(cell).items() if value is not None}


def _cell(plain: Any) -> Cell:
    return Number(**plain) if isinstance(plain, dict) else plain


def _lines(tree: Any, depth: int = 0) -> str:
    """JSON with a line for each setting, number and row, so that versions of it can be compared."""
    nested = isinstance(tree, dict) or (
        isinstance(tree, list) and any(isinstance(one, dict | list) for one in tree)
    )
    if not nested or not tree or depth > 3:
        return json.dumps(tree, ensure_ascii=False, allow_nan=False)
    indent = "\n" + " " * (depth + 1)
    if isinstance(tree, dict):
        parts = [f"{json.dumps(key)}: {_lines(value, depth + 1)}" for key, value in tree.items()]
        return "{" + indent + f",{indent}".join(parts) + indent[:-1] + "}"
    return "[" + indent + f",{indent}".join(_lines(one, depth + 1) for one in tree) + indent[:-1] + "]"
