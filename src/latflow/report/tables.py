"""The tables of a report, and its verdict: what `validation` found, as text for the page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from latflow.analysis import Measurement
from latflow.validation import MAX_PULL, PAIRS, Names

Mark = Literal["", "good", "warn", "bad"]

_REMARKABLE_PULL = 3.0
_WAYS = {
    "flow": "{heading}",
    "nis": "reweighted (NIS)",
    "hmc": "{beside}",
    "classical": "{beside}",
    "quenched": "quenched, reweighted",
    "exact": "exact or reference",
}
_SHORT = {
    "flow": "{mover}",
    "nis": "NIS",
    "hmc": "{beside}",
    "classical": "{beside}",
    "quenched": "quenched",
    "exact": "exact",
}
_ORDER = [f"{one}-{other}" for one, other in PAIRS]
_MOST_COLUMNS = 9
_TAUS = {
    "abs_magnetization": "τ of |M|, {mover} chain",
    "condensate": "τ of the condensate, {mover} chain",
    "charge_squared": "τ of Q², {mover} chain",
}
"""The observables whose autocorrelation time tells most, the first of them that a run has."""


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

    status: Literal["passed", "failed", "unknown"]
    title: str
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def measurement(entry: Any) -> Measurement | None:
    """A measurement from itself or from the dict that a JSON file has of it."""
    if entry is None or isinstance(entry, Measurement):
        return entry
    names = ("value", "error", "tau_int", "tau_int_error", "window", "n")
    return Measurement(**{name: entry[name] for name in names if name in entry})


def printed(m: Measurement) -> str:
    """As the field prints it; a number without error as it is."""
    return (f"{m.value:.8g}" if m.error == 0 else str(m)).replace("-", "−")


def names_in(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the model and the sampler beside it are called: "flow" and "HMC" where nothing else is said."""
    return Names().words() | dict(results.get("names", {}))


def banner(results: Mapping[str, Any]) -> Banner:
    """The verdict on the run in words."""
    if not results:
        return Banner(
            "unknown", "Not validated yet", ["`latflow validate` holds the numbers against each other."]
        )
    checks, pulls = results.get("checks", []), list(_pulls(results))
    warnings = list(results.get("warnings", []))
    failed = [f"{check['name']}: {check['detail']}" for check in checks if not check["passed"]]
    failed += [
        f"{label}: {_pair(pair, results)} is {pull:+.1f} standard deviations"
        for label, pair, pull in pulls
        if abs(pull) > MAX_PULL
    ]
    if not results["passed"]:
        return Banner("failed", "Validation failed", failed, warnings)
    summary = f"{len(checks)} of {len(checks)} checks hold"
    if pulls:
        label, pair, largest = max(pulls, key=lambda entry: abs(entry[2]))
        summary += (
            f"; the largest of {len(pulls)} pulls is {abs(largest):.1f} ({label}, {_pair(pair, results)})"
        )
    return Banner("passed", "Validation passed", [summary + "."], warnings)


def headline(results: Mapping[str, Any]) -> list[Cell]:
    """The numbers that one wants first, each with a name as its note: log Z, ESS, acceptance, τ."""
    rows = {row["name"]: row for row in results.get("rows", [])}
    diagnostics = results.get("diagnostics", {})
    cells = []
    log_z = rows.get("log_z", {})
    if (found := measurement(log_z.get("nis"))) is not None:
        exact = measurement(log_z.get("exact"))
        cells.append(Cell(printed(found), "log Z" + _beside(exact)))
    if "ess" in diagnostics:
        cells.append(Cell(f"{diagnostics['ess']:.3f}", "effective sample size"))
    if "acceptance" in diagnostics:
        cells += _acceptances(results)
    slowest = next((name for name in _TAUS if name in rows), "")
    tau = measurement(rows.get(slowest, {}).get("flow"))
    if tau is not None and tau.tau_int is not None:
        name = _TAUS[slowest].format(**names_in(results))
        cells.append(Cell(printed(Measurement(tau.tau_int, tau.tau_int_error or 0.0)), name))
    return cells


def _acceptances(results: Mapping[str, Any]) -> list[Cell]:
    """The acceptance of the one kernel of the chain, or of each in a cycle."""
    diagnostics, words = results["diagnostics"], Names(model=names_in(results)["model"])
    kernels = [name for name in names_in(results)["kernels"] if f"acceptance_{name}" in diagnostics]
    if not kernels:
        return [Cell(f"{diagnostics['acceptance']:.3f}", "acceptance")]
    return [
        Cell(f"{diagnostics[f'acceptance_{name}']:.3f}", f"acceptance of {words.kernel(name)}")
        for name in kernels
    ]


def verdict_tables(results: Mapping[str, Any]) -> list[Table]:
    """Each observable from every source, and the pulls between them; none without any observable.

    They stand side by side where the page is wide enough for that, otherwise one below the other.
    """
    rows = results.get("rows", [])
    if not rows:
        return []
    ways = [way for way in _WAYS if any(row.get(way) is not None for row in rows)]
    found = dict.fromkeys(pair for row in rows for pair in row["pulls"])
    pairs = sorted(found, key=lambda pair: _ORDER.index(pair) if pair in _ORDER else len(_ORDER))
    names = [Cell(row.get("label", row["name"])) for row in rows]
    values = [[_value_cell(measurement(row.get(way))) for way in ways] for row in rows]
    pulls = [[_pull_cell(row["pulls"].get(pair)) for pair in pairs] for row in rows]
    measured = "Expectation values with their errors; τ is the integrated autocorrelation time in steps."
    compared = (
        f"Pulls are differences in standard deviations, amber beyond {_REMARKABLE_PULL:.0f}, red beyond "
        f"{MAX_PULL:.0f} where the validation fails."
    )
    if {"flow", "nis"} <= set(ways):
        model = names_in(results)["model"].capitalize()
        compared += f" {model} and NIS share their draws and are not compared."
    notes = results.get("notes", [])
    value_head = [_WAYS[way].format(**names_in(results)) for way in ways]
    pull_head = [_pair(pair, results) for pair in pairs]
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


def _table(
    caption: list[str],
    names: list[Cell],
    head: list[str],
    body: list[list[Cell]],
    groups: list[tuple[str, int]],
) -> Table:
    rows = [[name, *cells] for name, cells in zip(names, body, strict=True)]
    return Table(" ".join(caption), ["observable", *head], rows, [("", 1), *(g for g in groups if g[1])])


def check_table(results: Mapping[str, Any]) -> Table | None:
    """Each check with what was found; None without any."""
    checks = results.get("checks", [])
    if not checks:
        return None
    rows = [
        [
            Cell(check["name"]),
            Cell("passed", mark="good") if check["passed"] else Cell("failed", mark="bad"),
            Cell(check["detail"]),
        ]
        for check in checks
    ]
    return Table("Statements that must hold, exactly or to rounding.", ["check", "verdict", "found"], rows)


def _value_cell(m: Measurement | None) -> Cell:
    if m is None:
        return Cell("–")
    return Cell(printed(m), "" if m.tau_int is None else f"τ = {m.tau_int:.{1 if m.tau_int < 100 else 0}f}")


def _beside(known: Measurement | None) -> str:
    if known is None:
        return ""
    return f"; {'reference' if known.error else 'exact'} {printed(known)}"


def _pull_cell(pull: float | None) -> Cell:
    if pull is None or math.isnan(pull):
        return Cell("–")
    mark: Mark = "bad" if abs(pull) > MAX_PULL else "warn" if abs(pull) > _REMARKABLE_PULL else ""
    return Cell(f"{pull:+.1f}".replace("-", "−"), mark=mark)


def _pulls(results: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    rows = results.get("rows", [])
    return [
        (row.get("label", row["name"]), pair, pull)
        for row in rows
        for pair, pull in row["pulls"].items()
        if not math.isnan(pull)
    ]


def _pair(pair: str, results: Mapping[str, Any]) -> str:
    return " − ".join(_SHORT.get(way, way).format(**names_in(results)) for way in pair.split("-"))
