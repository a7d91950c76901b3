"""What a scan has found, on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table as Printed
from rich.text import Text

from latflow.cli.console import results_console
from latflow.report.tables import Table
from latflow.scans import Findings
from latflow.scans.tables import critical_tables, overview_table

_STYLES = {"bad": "red", "warn": "yellow", "good": "green", "": ""}
_BETWEEN = 3
"""Blanks between two columns."""


def print_findings(found: Findings) -> None:
    """A table on stdout with a line for each run and as many observables as fit, and what they tell together.

    Those that tell of a critical point come first, then those that are slow.
    """
    console = results_console()
    table = overview_table(found)
    fixed = len(table.head) - len(found.observables)
    order = sorted(
        range(len(found.observables)),
        key=lambda i: (found.observables[i].scaling is None, not found.observables[i].slow),
    )
    columns, room = list(range(fixed)), console.width - sum(_width(table, i) for i in range(fixed))
    for i in order:
        room -= _width(table, fixed + i)
        if room >= 0:
            columns.append(fixed + i)
    console.print(_printed(table, found.name, sorted(columns)))
    if left := len(table.head) - len(columns):
        console.print(f"{left} more observables are in scan.md and on the page.", markup=False)
    for each in critical_tables(found):
        console.print(_printed(each, "", range(len(each.head))))
        for row in each.rows:
            for cell in row:
                if cell.note:
                    console.print(f"{row[0].text}: {cell.note}", style="yellow", markup=False)
    for note in found.notes:
        console.print(f"note: {note}", markup=False)
    for run in (run for group in found.groups for run in group.runs):
        if run[1].state not in ("passed", "unfinished"):
            console.print(f"{run[0].name}: {run[1].state}: {run[1].why}", style="yellow", markup=False)


def _width(table: Table, column: int) -> int:
    return _BETWEEN + max(len(text) for text in (table.head[column], *(r[column].text for r in table.rows)))


def _printed(table: Table, title: str, columns: "range | list[int]") -> Printed:
    made = Printed(title=Text(title) if title else None, box=SIMPLE_HEAD)
    for i in columns:
        made.add_column(Text(table.head[i]), no_wrap=True)
    for row in table.rows:
        made.add_row(*(Text(row[i].text, style=_STYLES[row[i].mark]) for i in columns))
    return made
