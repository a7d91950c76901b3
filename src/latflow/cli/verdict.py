"""The verdict on a run, and several runs side by side, on a terminal."""

import math
from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latflow.validation import Comparison, Row, Validation
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
    out = console()
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
    out.print(table)
    for check in validation.checks:
        verdict, style = ("passed", "green") if check.passed else ("FAILED", "red")
        out.print(f"{verdict}  {check.name}: {check.detail}", style=style, markup=False)
    for note in validation.notes:
        out.print(f"note: {note}", markup=False)
    for warning in validation.warnings:
        out.print(f"warning: {warning}", style="yellow", markup=False)
    for doubt in validation.doubts:
        out.print(f"doubt: {doubt}", style="yellow", markup=False)
    out.print(_LAST[validation.verdict], style="bold")


def print_theta(title: str, found: ThetaTable, page: Path) -> None:
    """For each way a table on stdout with a line for each θ: what it costs, and what is slow or odd.

    Args:
        title: of the tables.
        found: the theory at several θ.
        page: with all observables.
    """
    out = console()
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
        out.print(table)
    if drowned := [one.theta for column in found.columns for one in column.angles if one.drowned]:
        out.print(
            f"From θ = {min(drowned) / math.pi:.4g} π on, Z(θ)/Z(0) of some way is not known to be five "
            "errors from zero: other numbers drown in noise, and are left out.",
            style="yellow",
            markup=False,
        )
    out.print(str(page), markup=False)


def print_comparison(found: Comparison) -> None:
    """Three tables on stdout: the settings that differ, the numbers, and what they have cost."""
    out = console()
    settings = Table(title=Text("settings that differ"), box=SIMPLE_HEAD)
    for heading in ("key", *found.names):
        settings.add_column(Text(heading))
    for key, values in found.settings.items():
        settings.add_row(*map(Text, (key, *("–" if value is None else str(value) for value in values))))
    out.print(settings if found.settings else "no setting differs", markup=False)
    numbers = Table(box=SIMPLE_HEAD)
    headings = [f"{name}\n{way}" for name, way in zip(found.names, found.ways, strict=True)]
    for heading in ("observable", *headings, *(["largest pull"] if found.same_theory else [])):
        numbers.add_column(Text(heading))
    short = dict(zip(found.names, found.names, strict=True))
    for row in found.rows:
        cells = [row.label, *(str(row.values[name]) if name in row.values else "" for name in found.names)]
        cells += [_largest(row, short)] if found.same_theory else []
        numbers.add_row(*map(Text, cells), style=None if row.passed else "red")
    out.print(numbers)
    if not found.same_theory:
        out.print("The theories differ: their numbers are not held against each other.", markup=False)
    costs = Table(title=Text("cost, seconds by the clock"), box=SIMPLE_HEAD)
    for heading in ("run", "chain", "training", "ESS", "acceptance", "slowest", "τ", "an independent one"):
        costs.add_column(Text(heading))
    for one in found.costs:
        label, tau = one.tau or ("", "")
        training = "" if one.training is None else f"{one.training:.4g}"
        ess = "" if one.ess is None else f"{one.ess:.3f}"
        price = "" if one.configuration is None else str(one.configuration)
        costs.add_row(
            *map(Text, (one.run, one.chain, training, ess, f"{one.acceptance:.3f}", label, str(tau), price))
        )
    out.print(costs)


def console(width: int = _WIDTH) -> Console:
    """On stdout; of this width where that is no terminal."""
    out = Console()
    return out if out.is_terminal else Console(width=width)


def _largest(row: Row, short: Mapping[str, str]) -> str:
    """The largest pull, and of which two ways: "+1.2  model-HMC"."""
    if row.largest is None:
        return ""
    one, other = row.largest
    return f"{row.pulls[row.largest]:+.1f}  {short[one]}-{short[other]}"
