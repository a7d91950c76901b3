"""The verdict on a run: everything that it has found against everything else that is known."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from latflow.errors import UnreliableErrorWarning
from latflow.runs.place import digests_in
from latflow.validation.checks import Check
from latflow.validation.density import density_checks
from latflow.validation.doubts import doubts, of_weights, rests_on_weights, undecided
from latflow.validation.drift import drift_checks
from latflow.validation.evidence import Evidence
from latflow.validation.sectors import sector_checks
from latflow.validation.signs import sign_checks
from latflow.validation.table import Row, table
from latflow.validation.ways import Way, all_ways

if TYPE_CHECKING:
    from latflow.runs import Run

Verdict = Literal["passed", "failed", "inconclusive"]
"""Whether everything agrees, something does not, or there is too little to tell."""


@dataclass(frozen=True)
class Validation:
    """The verdict.

    Attributes:
        ways: to know a number, in the order of the columns: those that have a number.
        rows: the observables, each by every way.
        checks: statements that must hold.
        diagnostics: of weights and chains, plain numbers by name.
        doubts: why there is too little to tell whether the numbers are right, and what to do.
        warnings: why single errors may not be trusted.
        notes: what the table holds, and what it does not.
        checkpoints: of the run that was judged, digests by their names, as `Run.digests` has them.
    """

    ways: list[Way]
    rows: list[Row]
    checks: list[Check]
    diagnostics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    checkpoints: dict[str, str | None] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Failed if a pull exceeds `MAX_PULL` or a check does not hold, else inconclusive if in doubt."""
        if not all(part.passed for part in (*self.rows, *self.checks)):
            return "failed"
        return "inconclusive" if self.doubts else "passed"

    @property
    def passed(self) -> bool:
        """Whether everything agrees, and there is enough to tell."""
        return self.verdict == "passed"

    def way(self, name: str) -> Way | None:
        """The way of a name, None where nothing is known by it."""
        return next((way for way in self.ways if way.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain numbers and strings, for a JSON file."""
        return {
            "ways": [
                {"name": way.name, "heading": way.heading, "short": way.short, "sampled": way.sampled}
                for way in self.ways
            ],
            "rows": [row.as_dict() for row in self.rows],
            "checks": [asdict(check) for check in self.checks],
            "diagnostics": self.diagnostics,
            "warnings": self.warnings,
            "notes": self.notes,
            "verdict": self.verdict,
            "doubts": self.doubts,
            "checkpoints": self.checkpoints,
        }


def validate(run: "Run") -> Validation:
    """Hold everything that a run has found against everything else that is known.

    Args:
        run: with samples of the model, of the chain beside it, or of both.

    Raises:
        ValueError: when a series is too short for an error, naming how many steps it needs.
    """
    checkpoints = digests_in(run.path)  # before anything is read: another process may add to it
    own = density_checks(run.model(), run.action) if run.config.model is not None else ()
    return replace(validated(Evidence.of(run), own), checkpoints=checkpoints)


def validated(evidence: Evidence, own: Iterable[Check] = ()) -> Validation:
    """The verdict on what was found, however it was made.

    Args:
        evidence: chains, draws, or both.
        own: checks of the model itself.

    Raises:
        ValueError: as `validate`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)  # the verdict holds them all
        return _verdict(evidence, own)


def _verdict(evidence: Evidence, own: Iterable[Check]) -> Validation:
    tried = all_ways(evidence)
    found = [way for way in tried if way.measurements]
    diagnostics = {name: number for way in tried for name, number in way.diagnostics.items()}
    checks = [
        *own,
        *evidence.checks(),
        *sign_checks(evidence.action, found),
        *drift_checks(evidence.chains()),
        *sector_checks(evidence.action, evidence.chains()),
    ]
    rows = table(evidence.action, found, undecided(evidence, found))
    return Validation(
        found,
        rows,
        checks,
        diagnostics,
        [*([] if rests_on_weights(evidence) else of_weights(diagnostics)), *of_errors(rows, found)],
        [note for way in tried for note in way.notes],
        list(doubts(evidence, found, rows)),
    )


def of_errors(rows: Sequence[Row], ways: Sequence[Way]) -> Iterator[str]:
    """Which errors may not be trusted, or are missing, and why: a sentence for each way."""
    for way in ways:
        told = [(row.label, m.warning) for row in rows if (m := row.values.get(way.name)) and m.warning]
        if told:
            several = "; ".join(f"{label}: {warning}" for label, warning in told)
            yield f"Errors of {way.sentence} that are not to be trusted, or missing: {several}."
