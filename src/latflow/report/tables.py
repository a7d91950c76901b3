"""The tables of a report, and its verdict: what `validation` found, as text for the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.validation import MAX_PULL, AtCouplings, Row, Validation, Way

Mark = Literal["", "good", "warn", "bad"]

_REMARKABLE_PULL = 3.0
_MOST_COLUMNS = 9


@dataclass(frozen=True)
class Cell:
    """One entry: its text, a note below it, and whether it is good, remarkable or bad."""

    text: str
    note: str = ""
    mark: Mark = ""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its heading.

    Attributes:
        caption: what it holds.
        head: headings of the columns.
        rows: the cells.
        groups: headings above several columns, each with the number of columns that it spans.
    """

    caption: str
    head: list[str]
    rows: list[list[Cell]]
    groups: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Banner:
    """What stands at the top of the page: the verdict, why, and warnings."""

    status: Literal["passed", "failed", "inconclusive", "unknown"]
    title: str
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def printed(m: Measurement) -> str:
    """As the field prints it; a number without error as it is, whether it is exact or nothing moved.

    What noise made not a number, such as the root of a difference below zero, is undefined.
    """
    if math.isnan(m.value) or (math.isnan(m.error) and not m.warning):
        return "undefined"
    without = m.error == 0 or (m.warning and math.isnan(m.error))
    return (f"{m.value:.8g}" if without else str(m)).replace("-", "−")


def banner(validation: Validation | None) -> Banner:
    """The verdict on the run in words."""
    if validation is None:
        return Banner(
            "unknown", "Not validated yet", ["`latflow validate` holds the numbers against each other."]
        )
    pulls, checks = list(_pulls(validation)), validation.checks
    if validation.verdict == "failed":
        failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
        failed += [
            f"{label}: {_pair(pair, validation)} is {pull:+.1f} standard deviations"
            for label, pair, pull in pulls
            if abs(pull) > MAX_PULL
        ]
        failed += [
            f"{row.label}: {_pair(pair, validation)} is not a number"
            for row in validation.rows
            for pair, pull in row.pulls.items()
            if math.isnan(pull)
        ]
        return Banner("failed", "Validation failed", failed, [*validation.doubts, *validation.warnings])
    if validation.verdict == "inconclusive":
        return Banner("inconclusive", "Validation inconclusive", validation.doubts, validation.warnings)
    summary = f"{len(checks)} of {len(checks)} checks hold"
    if pulls:
        label, pair, largest = max(pulls, key=lambda entry: abs(entry[2]))
        summary += (
            f"; the largest of {len(pulls)} pulls is {abs(largest):.1f} ({label}, {_pair(pair, validation)})"
        )
    return Banner("passed", "Validation passed", [summary + "."], validation.warnings)


def headline(
    validation: Validation | None, slow: Observable | None = None, kernels: Mapping[str, str] | None = None
) -> list[Cell]:
    """The numbers that one wants first, each with a name as its note: log Z, ESS, acceptance, τ.

    Args:
        validation: the verdict, if there is one.
        slow: the observable whose τ in the model's chain is told.
        kernels: what the kernels of the chains are called, by their names.
    """
    if validation is None:
        return []
    rows, diagnostics = {row.name: row for row in validation.rows}, validation.diagnostics
    cells = []
    if "log_z" in rows and (found := _first(rows["log_z"], validation.ways, sampled=True)) is not None:
        known = _first(rows["log_z"], validation.ways, sampled=False)
        cells.append(Cell(printed(found), "log Z" + _beside(known)))
    if "ess" in diagnostics:
        cells.append(Cell(f"{diagnostics['ess']:.3f}", "effective sample size"))
    if "acceptance" in diagnostics:
        cells += _acceptances(diagnostics, kernels or {})
    elif "beside_acceptance" in diagnostics:
        cells.append(Cell(f"{diagnostics['beside_acceptance']:.3f}", "acceptance"))
    if slow is not None and slow.name in rows:
        cells += _tau(slow, rows[slow.name], validation)
    return cells


def _tau(slow: Observable, row: Row, validation: Validation) -> list[Cell]:
    """τ in the model's chain, or in another where that is the only one."""
    way = validation.way("model") or validation.way("beside") or validation.way("ensemble")
    tau = None if way is None else row.values.get(way.name)
    if way is None or tau is None or tau.tau_int is None:
        return []
    number = printed(Measurement(tau.tau_int, tau.tau_int_error or 0.0))
    return [Cell(number, f"τ of {slow.in_words}, {way.sentence}")]


def _first(row: Row, ways: Sequence[Way], sampled: bool) -> Measurement | None:
    """The number of the first way that rests on draws, or of the first that does not."""
    return next((row.values[w.name] for w in ways if w.sampled == sampled and w.name in row.values), None)


def _acceptances(diagnostics: Mapping[str, float], kernels: Mapping[str, str]) -> list[Cell]:
    """The acceptance of the one kernel of the chain, or of each in a cycle."""
    found = {title: diagnostics.get(f"acceptance_{name}") for name, title in kernels.items()}
    cells = [Cell(f"{a:.3f}", f"acceptance of {title}") for title, a in found.items() if a is not None]
    return cells or [Cell(f"{diagnostics['acceptance']:.3f}", "acceptance")]


def verdict_tables(validation: Validation | None) -> list[Table]:
    """Each observable by every way, and the pulls between them; none without any observable.

    They stand side by side where the page is wide enough for that, otherwise one below the other.
    """
    if validation is None or not validation.rows:
        return []
    rows, order = validation.rows, {way.name: i for i, way in enumerate(validation.ways)}
    ways = [way for way in validation.ways if any(way.name in row.values for row in rows)]
    pairs = sorted(
        {pair for row in rows for pair in row.pulls}, key=lambda pair: [order[name] for name in pair]
    )
    names = [Cell(row.label) for row in rows]
    values = [[_value_cell(row.values.get(way.name)) for way in ways] for row in rows]
    pulls = [[_pull_cell(row.pulls.get(pair)) for pair in pairs] for row in rows]
    measured = "Expectation values with their errors; τ is the integrated autocorrelation time in steps."
    compared = (
        f"Pulls are differences in standard deviations, amber beyond {_REMARKABLE_PULL:.0f}, red beyond "
        f"{MAX_PULL:.0f} where the validation fails."
    )
    for shared in _sharing(ways):
        compared += f" {shared} share their draws and are not compared."
    notes = validation.notes
    value_head, pull_head = [way.heading for way in ways], [_pair(pair, validation) for pair in pairs]
    value_group, pull_group = ("expectation values", len(ways)), ("pulls [σ]", len(pairs))
    if len(ways) + len(pairs) > _MOST_COLUMNS:
        return [
            _table([measured, *notes], names, value_head, values, [value_group]),
            _table([compared], names, pull_head, pulls, [pull_group]),
        ]
    both = [one + other for one, other in zip(values, pulls, strict=True)]
    return [
        _table([measured, compared, *notes], names, value_head + pull_head, both, [value_group, pull_group])
    ]


def _sharing(ways: Sequence[Way]) -> Iterator[str]:
    """The ways that share their draws, in words."""
    for source in dict.fromkeys(way.source for way in ways):
        sharing = [way.short for way in ways if way.source == source]
        if len(sharing) > 1:
            text = f"{', '.join(sharing[:-1])} and {sharing[-1]}"
            yield text[0].upper() + text[1:]


def _table(
    caption: list[str],
    names: list[Cell],
    head: list[str],
    body: list[list[Cell]],
    groups: list[tuple[str, int]],
) -> Table:
    rows = [[name, *cells] for name, cells in zip(names, body, strict=True)]
    return Table(" ".join(caption), ["observable", *head], rows, [("", 1), *(g for g in groups if g[1])])


def reweighted_table(found: Sequence[AtCouplings]) -> Table | None:
    """Each observable at other couplings, with what is left of the configurations; None without any."""
    if not found:
        return None
    labels = {name: label for one in found for name, label in one.labels.items()}
    rows = [
        [Cell(label), *(_value_cell(one.numbers.get(name)) for one in found)]
        for name, label in labels.items()
    ]
    shares = [Cell(f"{one.ess:.3g}", "; ".join(one.warnings), "bad" if one.warnings else "") for one in found]
    return Table(
        "Averages at other couplings, by reweighting with exp(S − S′). The ESS is the share of the "
        "configurations that count; where they do not overlap with what is typical there, averages and their "
        "errors are wrong.",
        ["observable", *(one.title for one in found)],
        [[Cell("ESS"), *shares], *rows],
    )


def check_table(validation: Validation | None) -> Table | None:
    """Each check with what was found; None without any."""
    if validation is None or not validation.checks:
        return None
    rows = [
        [
            Cell(check.name),
            Cell("passed", mark="good") if check.passed else Cell("failed", mark="bad"),
            Cell(check.detail),
        ]
        for check in validation.checks
    ]
    return Table("Statements that must hold, exactly or to rounding.", ["check", "verdict", "found"], rows)


def _value_cell(m: Measurement | None) -> Cell:
    if m is None:
        return Cell("–")
    tau = "" if m.tau_int is None else f"τ = {m.tau_int:.{1 if m.tau_int < 100 else 0}f}"
    return Cell(printed(m), m.warning or tau, "warn" if m.warning else "")


def _beside(known: Measurement | None) -> str:
    if known is None:
        return ""
    return f"; {'reference' if known.error else 'exact'} {printed(known)}"


def _pull_cell(pull: float | None) -> Cell:
    if pull is None:
        return Cell("–")
    if math.isnan(pull):
        return Cell("nan", mark="bad")
    mark: Mark = "bad" if abs(pull) > MAX_PULL else "warn" if abs(pull) > _REMARKABLE_PULL else ""
    return Cell(f"{pull:+.1f}".replace("-", "−"), mark=mark)


def _pulls(validation: Validation) -> Iterator[tuple[str, tuple[str, str], float]]:
    for row in validation.rows:
        for pair, pull in row.pulls.items():
            if not math.isnan(pull):
                yield row.label, pair, pull


def _pair(pair: tuple[str, str], validation: Validation) -> str:
    short = {way.name: way.short for way in validation.ways}
    return " − ".join(short.get(name, name) for name in pair)
