"""The verdict on a run, and several runs side by side, on a terminal."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latflow.cli.console import results_console
from latflow.validation import AtCouplings, Comparison, Row, Validation
from latflow.validation.theta import ThetaTable

_LAST = {
    "passed": "validated",
    "failed": "validation FAILED",
    "inconclusive": "validation INCONCLUSIVE: too little to tell",
}


def print_verdict(title: str, validation: Validation, quiet: bool = False) -> None:
    """A table on stdout with a column for each way to know a number, and the checks and words below it.

    Args:
        title: of the table.
        validation: the verdict.
        quiet: whether it is told in one line instead.
    """
    console = results_console()
    if not quiet:
        _print_table(console, title, validation)
    console.print(_LAST[validation.verdict], style="bold")


def _print_table(console: Console, title: str, validation: Validation) -> None:
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


def print_reweighted(found: Sequence[AtCouplings]) -> None:
    """A table on stdout with a column for each other coupling, and a warning where there is no overlap."""
    if not found:
        return
    console = results_console()
    table = Table(title=Text("reweighted"), box=SIMPLE_HEAD)
    for heading in ("observable", *(one.title for one in found)):
        table.add_column(Text(heading))
    table.add_row("ESS", *(f"{one.ess:.3g}" for one in found))
    for name, label in {name: label for one in found for name, label in one.labels.items()}.items():
        cells = (str(one.numbers[name]) if name in one.numbers else "" for one in found)
        table.add_row(*map(Text, (label, *cells)))
    console.print(table)
    for one in found:
        for warning in one.warnings:
            console.print(
                f"warning: no overlap at {one.title}: {warning}: do not trust that column.",
                style="yellow",
                markup=False,
            )


def print_theta(title: str, found: ThetaTable, page: Path) -> None:
    """For each way a table on stdout with a line for each θ: what it costs, and what is slow or odd.

    Args:
        title: of the tables.
        found: the theory at several θ.
        page: with all observables.
    """
    console = results_console()
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


def print_comparison(found: Comparison) -> None:
    """Three tables on stdout: the settings that differ, the numbers, and what they have cost."""
    console = results_console()
    settings = Table(title=Text("settings that differ"), box=SIMPLE_HEAD)
    for heading in ("key", *found.names):
        settings.add_column(Text(heading))
    for key, values in found.settings.items():
        settings.add_row(*map(Text, (key, *("–" if value is None else str(value) for value in values))))
    console.print(settings if found.settings else "no setting differs", markup=False)
    numbers = Table(box=SIMPLE_HEAD)
    headings = [f"{name}\n{way}" for name, way in zip(found.names, found.ways, strict=True)]
    for heading in ("observable", *headings, *(["largest pull"] if found.same_theory else [])):
        numbers.add_column(Text(heading))
    short = dict(zip(found.names, found.names, strict=True))
    for row in found.rows:
        cells = [row.label, *(str(row.values[name]) if name in row.values else "" for name in found.names)]
        cells += [_largest(row, short)] if found.same_theory else []
        numbers.add_row(*map(Text, cells), style=None if row.passed else "red")
    console.print(numbers)
    if not found.same_theory:
        console.print("The theories differ: their numbers are not held against each other.", markup=False)
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
    console.print(costs)


def _largest(row: Row, short: Mapping[str, str]) -> str:
    """The largest pull, and of which two ways: "+1.2  model-HMC"."""
    if row.largest is None:
        return ""
    one, other = row.largest
    return f"{row.pulls[row.largest]:+.1f}  {short[one]}-{short[other]}"
