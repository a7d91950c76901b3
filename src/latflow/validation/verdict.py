"""The verdict on a run: everything that it has found against everything else that is known."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from latflow.errors import UnreliableErrorWarning
from latflow.validation.checks import Check
from latflow.validation.density import density_checks
from latflow.validation.drift import drift_checks, movement_checks
from latflow.validation.evidence import Evidence
from latflow.validation.sectors import sector_checks
from latflow.validation.signs import sign_checks
from latflow.validation.table import Row, table
from latflow.validation.ways import Way, all_ways

if TYPE_CHECKING:
    from latflow.runs import Run

PARETO_WARNING = 0.7
"""Above this tail index of the weights, averages over the model's draws cannot be trusted."""


@dataclass(frozen=True)
class Validation:
    """The verdict.

    Attributes:
        ways: to know a number, in the order of the columns: those that have a number.
        rows: the observables, each by every way.
        checks: statements that must hold.
        diagnostics: of weights and chains, plain numbers by name.
        warnings: why numbers may not be trusted.
        notes: what the table holds, and what it does not.
    """

    ways: list[Way]
    rows: list[Row]
    checks: list[Check]
    diagnostics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every pull is at most `MAX_PULL` and every check holds."""
        return all(row.passed for row in self.rows) and all(check.passed for check in self.checks)

    def way(self, name: str) -> Way | None:
        """The way of a name, None where nothing is known by it."""
        return next((way for way in self.ways if way.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain numbers and strings, for a JSON file."""
        return {
            "ways": [{"name": way.name, "heading": way.heading, "short": way.short} for way in self.ways],
            "rows": [row.as_dict() for row in self.rows],
            "checks": [asdict(check) for check in self.checks],
            "diagnostics": self.diagnostics,
            "warnings": self.warnings,
            "notes": self.notes,
            "passed": self.passed,
        }


def validate(run: "Run") -> Validation:
    """Hold everything that a run has found against everything else that is known.

    Args:
        run: with samples of the model, of the chain beside it, or of both.

    Raises:
        ValueError: when a series is too short for an error, naming how many steps it needs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)  # the verdict holds them all
        return _verdict(run)


def _verdict(run: "Run") -> Validation:
    evidence = Evidence.of(run)
    tried = all_ways(evidence)
    found = [way for way in tried if way.measurements]
    diagnostics = {name: number for way in tried for name, number in way.diagnostics.items()}
    checks = [
        *density_checks(run.model(), run.action),
        *evidence.checks(),
        *sign_checks(run.action, found),
        *movement_checks(run.action, evidence.chains()),
        *drift_checks(evidence.chains()),
        *sector_checks(run.action, evidence.chains()),
    ]
    rows = table(run.action, found)
    return Validation(
        found,
        rows,
        checks,
        diagnostics,
        [*of_weights(diagnostics), *of_errors(rows, found)],
        [note for way in tried for note in way.notes],
    )


def of_errors(rows: Sequence[Row], ways: Sequence[Way]) -> Iterator[str]:
    """Which errors may not be trusted, or are missing, and why: a sentence for each way."""
    for way in ways:
        told = [(row.label, m.warning) for row in rows if (m := row.values.get(way.name)) and m.warning]
        if told:
            several = "; ".join(f"{label}: {warning}" for label, warning in told)
            yield f"Errors of {way.sentence} that are not to be trusted, or missing: {several}."


def of_weights(diagnostics: dict[str, float]) -> list[str]:
    """Why the weights may not be trusted."""
    found = []
    if diagnostics.get("pareto_k", 0.0) > PARETO_WARNING:
        found.append(
            f"The Pareto tail index of the weights is {diagnostics['pareto_k']:.2f}, above {PARETO_WARNING}: "
            "the model misses part of the target, and averages over its draws cannot be trusted."
        )
    if diagnostics.get("largest_weight_share", 0.0) > 0.1:
        share = diagnostics["largest_weight_share"]
        found.append(f"A single draw carries {share:.0%} of all weight: the errors are not reliable.")
    return found
