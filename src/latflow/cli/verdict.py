"""The verdict on a run, on a terminal."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latflow.validation import Row, Validation

_LAST = {
    "passed": "validated",
    "failed": "validation FAILED",
    "inconclusive": "validation INCONCLUSIVE: too little to tell",
}
_WIDTH = 120  # where there is no terminal to ask


def print_verdict(title: str, validation: Validation) -> None:
    """A table on stdout with a column for each way to know a number, and the checks and words below it.

    Args:
        title: of the table.
        validation: the verdict.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    ways = validation.ways
    headings = (way.heading for way in ways)
    table = Table(title=Text(title), box=SIMPLE_HEAD)
    for heading in ("observable", *headings, "largest pull"):
        table.add_column(Text(heading))
    short = {way.name: way.short for way in ways}
    for row in validation.rows:
        values = (str(row.values[way.name]) if way.name in row.values else "" for way in ways)
        cells = map(Text, (row.label, *values, _largest(row, short)))
        table.add_row(*cells, style=None if row.passed else "red")
    console.print(table)
    for check in validation.checks:
        verdict, style = ("passed", "green") if check.passed else ("FAILED", "red")
        console.print(f"{verdict}  {check.name}: {check.detail}", style=style, markup=False)
    for note in validation.notes:
        console.print(f"note: {note}", markup=False)
    for warning in validation.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    for doubt in validation.doubts:
        console.print(f"doubt: {doubt}", style="yellow", markup=False)
    console.print(_LAST[validation.verdict], style="bold")


def _largest(row: Row, short: Mapping[str, str]) -> str:
    """The largest pull, and of which two ways: "+1.2  model-HMC"."""
    if row.largest is None:
        return ""
    one, other = row.largest
    return f"{row.pulls[row.largest]:+.1f}  {short[one]}-{short[other]}"
