"""The verdict on a run, on a terminal."""

import math
from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latflow.validation import Row, Validation
from latflow.validation.theta import ThetaTable

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
    console = _console()
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


def print_theta(title: str, found: ThetaTable, page: Path) -> None:
    """For each way a table on stdout with a line for each θ: what it costs, and what is slow or odd.

    Args:
        title: of the tables.
        found: the theory at several θ.
        page: with all observables.
    """
    console = _console()
    shown = [one for one in found.observables if one.odd or one.slow or one.shown]
    for column in found.columns:
        table = Table(title=Text(f"{title}, {column.heading}"), box=SIMPLE_HEAD)
        for heading in ("θ/π", "Z(θ)/Z(0)", "exact", "left", *map(found.label, shown)):
            if heading != "exact" or found.exact:
                table.add_column(Text(heading))
        for i, one in enumerate(column.angles):
            cells = [f"{one.theta / math.pi:.4g}", str(one.ratio)]
            if found.exact:
                cells.append(f"{found.exact[i]['theta_ratio'].value:.5g}")
            cells.append(f"{one.share:.1%}")
            cells += [str(one.numbers[two.name]) if two.name in one.numbers else "" for two in shown]
            table.add_row(*map(Text, cells), style="yellow" if one.drowned else None)
        console.print(table)
    if drowned := [one.theta for column in found.columns for one in column.angles if one.drowned]:
        console.print(
            f"From θ = {min(drowned) / math.pi:.4g} π on, Z(θ)/Z(0) of some way is not known to be five "
            "errors from zero: other numbers drown in noise, and are left out.",
            style="yellow",
            markup=False,
        )
    console.print(str(page), markup=False)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def _largest(row: Row, short: Mapping[str, str]) -> str:
    """The largest pull, and of which two ways: "+1.2  model-HMC"."""
    if row.largest is None:
        return ""
    one, other = row.largest
    return f"{row.pulls[row.largest]:+.1f}  {short[one]}-{short[other]}"
