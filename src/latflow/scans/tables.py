"""The tables of a scan, for a page, for Markdown and for a terminal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latflow.analysis.collapse import Collapse
from latflow.analysis.scaling import Crossing
from latflow.config import short_names
from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.report.linked import MARKS, Linked, link
from latflow.report.overview import REPORT, Overview
from latflow.report.tables import Cell, Mark, Table, printed
from latflow.scans.critical import Critical
from latflow.scans.findings import Findings
from latflow.scans.groups import Agreement, Group, Settings

_AMBER = 0.0027
"""The probability of three standard deviations."""


def overview_table(found: Findings, place: Path = Path()) -> Table:
    """Each group with its verdict and the best number of each observable.

    Args:
        found: the scan.
        place: the folder of the page, from which links lead.
    """
    heads = [*map(short(found).__getitem__, found.keys), "verdict", *(one.label for one in found.observables)]
    rows = []
    for group in found.groups:
        first, *others = [Cell(shown(group.settings[key])) for key in found.keys] or [Cell(found.name)]
        rows.append(
            [
                Linked(first.text, targets=tuple(_links(group, place))),
                *others,
                Cell(group.state, _why(group), MARKS[group.state]),
                *(_best_cell(group, one.name, found) for one in found.observables),
            ]
        )
    mean = " Numbers are means over the seeds." if found.seeds else ""
    caption = (
        "The best number of each run: that of the smallest error that may be trusted, with the way by which "
        f"it is known and its τ below.{mean}"
    )
    return Table(caption, heads if found.keys else ["run", *heads], rows)


def observable_table(found: Findings, observable: Observable) -> Table:
    """One observable by every way there is to know it, and how well seeds agree."""
    ways = [
        way for way in found.ways if any(way in one.values.get(observable.name, {}) for one in found.groups)
    ]
    agreeing = [way for way in ways if any(way in g.agreement.get(observable.name, {}) for g in found.groups)]
    rows = []
    for group in found.groups:
        values, agreement = group.values.get(observable.name, {}), group.agreement.get(observable.name, {})
        settings = [Cell(shown(group.settings[key])) for key in found.keys] or [Cell(found.name)]
        rows.append(
            [
                *settings,
                *(_value_cell(values.get(way)) for way in ways),
                *(_agreement_cell(agreement.get(way)) for way in agreeing),
            ]
        )
    keys = [short(found)[key] for key in found.keys] or ["run"]
    heads = [*keys, *(found.ways[way] for way in ways), *(f"χ²/dof, {found.ways[way]}" for way in agreeing)]
    seeds = " χ² tells how well the seeds agree about their mean." if agreeing else ""
    return Table(f"{observable.label}.{seeds}", heads, rows)


def critical_tables(found: Findings) -> list[Table]:
    """Crossings and finite-size fits; none where nothing of the sort was scanned."""
    if not found.critical:
        return []
    symbol = short(found)[found.parameter or ""]
    crossed = [
        [Cell(_title(one)), Cell(f"{each.sizes[0]:g}, {each.sizes[1]:g}"), *_crossing_cells(each)]
        for one in found.critical
        for each in one.crossings
    ]
    fitted = [[Cell(_title(one)), *_collapse_cells(one.collapse)] for one in found.critical]
    return [
        Table(
            f"Where the curves of neighbouring lattices cross, by polynomials in {symbol} fitted to each and "
            "averaged over degrees and ranges. Errors go through the fits linearly, and have their spread.",
            ["observable", "L", f"{symbol} of the crossing", "value there", "χ²/dof"],
            crossed,
        ),
        Table(
            f"Finite-size scaling, f(({symbol} − {symbol}_c) L^(1/ν)) with a polynomial f, averaged "
            "likewise, also over lattices that are left out; χ² and L are those of the fit that counts for "
            "most.",
            ["observable", f"{symbol}_c", "ν", "value there", "χ²/dof", "p", "L"],
            fitted,
        ),
    ]


def markdown(table: Table) -> str:
    """A table in Markdown, notes in brackets."""

    def text(cell: Cell) -> str:
        whole = f"{cell.text} ({cell.note})" if cell.note else cell.text
        return whole.replace("|", r"\|")

    lines = [[head.replace("|", r"\|") for head in table.head], ["---"] * len(table.head)]
    lines += [[text(cell) for cell in row] for row in table.rows]
    return "\n".join([table.caption, "", *("| " + " | ".join(line) + " |" for line in lines)])


def short(found: Findings) -> dict[str, str]:
    """What the keys are called."""
    return short_names(found.keys)


def shown(value: Any) -> str:
    """The value of a key, for people: a lattice is 16×16."""
    if isinstance(value, list | tuple) and value and all(type(one) is int for one in value):
        return "×".join(map(str, value))
    if isinstance(value, str):
        return Path(value).name
    return f"{value:.10g}".replace("-", "−") if isinstance(value, float) else str(value)


def in_words(settings: Settings) -> str:
    """Settings in a legend: "16×16, lam = 0.5"."""
    return ", ".join(
        shown(value) if isinstance(value, str | tuple) else f"{key.rpartition('.')[2]} = {shown(value)}"
        for key, value in settings
    )


def _links(group: Group, place: Path) -> Iterator[tuple[str, str]]:
    """To the reports of the runs."""
    for run, found in group.runs:
        text = f"seed {run.point.values['seed']}" if len(group.runs) > 1 else "report"
        yield from link(text, found.path / REPORT, place)


def _why(group: Group) -> str:
    told = [_told(found) for _, found in group.runs if found.state != "passed"]
    if group.state == "failed" and not told:
        told = ["the seeds do not agree"]
    return "; ".join(dict.fromkeys(told))


def _told(found: Overview) -> str:
    return found.why if len(found.why) < 120 else f"{found.why[:120]}…"


def _best_cell(group: Group, name: str, found: Findings) -> Cell:
    best = group.best(name, found.sampled)
    if best is None:
        return Cell("–")
    way, m = best
    tau = "" if m.tau_int is None else f", τ = {m.tau_int:.{1 if m.tau_int < 100 else 0}f}"
    note = f"{found.ways[way]}{tau}" if not m.warning else f"{found.ways[way]}: {m.warning}"
    return Cell(printed(m), note, "warn" if m.warning else "")


def _value_cell(m: Measurement | None) -> Cell:
    if m is None:
        return Cell("–")
    return Cell(printed(m), m.warning, "warn" if m.warning else "")


def _agreement_cell(one: Agreement | None) -> Cell:
    if one is None:
        return Cell("–")
    mark: Mark = "" if one.p_value >= _AMBER else "warn" if one.passed else "bad"
    return Cell(f"{one.chi_squared:.1f}/{one.dof}", mark=mark)


def _title(one: Critical) -> str:
    power = one.observable.scaling
    name = one.observable.label if not power else f"{one.observable.in_words}/L{'' if power == 1 else power}"
    return f"{name}, {in_words(one.settings)}" if one.settings else name


def _crossing_cells(one: Crossing) -> list[Cell]:
    quality = Cell(f"{one.chi_squared:.1f}/{one.dof}" if one.dof else "–")
    if one.coupling is None or one.value is None:
        return [Cell("cannot be told", one.why, "warn"), Cell("–"), quality]
    return [Cell(printed(one.coupling)), Cell(printed(one.value)), quality]


def _collapse_cells(one: Collapse) -> list[Cell]:
    quality = [
        Cell(f"{one.chi_squared:.1f}/{one.dof}" if one.dof else "–"),
        Cell(f"{one.p_value:.2g}" if one.dof else "–"),
        Cell(", ".join(f"{size:g}" for size in one.sizes) or "–"),
    ]
    if one.coupling is None or one.nu is None or one.value is None:
        return [Cell("cannot be told", one.why, "warn"), Cell("–"), Cell("–"), *quality]
    return [Cell(printed(one.coupling)), Cell(printed(one.nu)), Cell(printed(one.value)), *quality]
