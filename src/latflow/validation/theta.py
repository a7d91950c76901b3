"""The theory at other vacuum angles θ, by every way to know it and beside what is known exactly."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from latflow.analysis import AtTheta, at_theta
from latflow.errors import RunFolderError, UnreliableErrorWarning
from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.theories import Action
from latflow.validation.evidence import Evidence, Series

if TYPE_CHECKING:
    from latflow.runs import Run

CHARGE = "topological_charge"
"""The series without which there is no θ."""


@runtime_checkable
class KnownAtTheta(Protocol):
    """A theory that is solved at every θ."""

    def known_at_theta(self, theta: float) -> Mapping[str, Measurement]:
        """Exact numbers by the names of observables, and Z(θ)/Z(0) as "theta_ratio"."""
        ...


@dataclass(frozen=True)
class ThetaColumn:
    """One way to know the theory at several θ.

    Attributes:
        name: "model", "weights", "beside".
        heading: what it is called.
        angles: at each θ.
    """

    name: str
    heading: str
    angles: list[AtTheta]


@dataclass(frozen=True)
class ThetaTable:
    """A theory at several θ.

    Attributes:
        angles: the values of θ.
        columns: the ways to know it.
        observables: that have a row, in their order.
        exact: what is known of it at each θ, by the names of observables; empty where nothing is.
    """

    angles: list[float]
    columns: list[ThetaColumn]
    observables: list[Observable]
    exact: list[Mapping[str, Measurement]] = field(default_factory=list)

    def label(self, observable: Observable) -> str:
        """What a table writes of an observable: of an odd one it has the imaginary part."""
        return f"{observable.label}/i" if observable.odd else observable.label

    def as_dict(self) -> dict[str, Any]:
        """As plain numbers and strings, for a JSON file; what is not finite is a string."""
        return {
            "angles": self.angles,
            "ways": [
                {
                    "name": column.name,
                    "heading": column.heading,
                    "at": [
                        {
                            "theta": one.theta,
                            "ratio": _plain(one.ratio),
                            "share": one.share,
                            "drowned": one.drowned,
                            "numbers": {name: _plain(m) for name, m in one.numbers.items()},
                        }
                        for one in column.angles
                    ],
                }
                for column in self.columns
            ],
            "exact": [{name: m.value for name, m in numbers.items()} for numbers in self.exact],
        }

    def markdown(self) -> str:
        """A table of every observable for each θ, in markdown."""
        return "\n\n".join(["# At other vacuum angles", _EXPLANATION, *self._sections()]) + "\n"

    def _sections(self) -> Iterator[str]:
        for i, theta in enumerate(self.angles):
            exact = self.exact[i] if self.exact else None
            head = [
                "",
                *(column.heading for column in self.columns),
                *(["exact"] if exact is not None else []),
            ]
            rows = [self._line("Z(θ)/Z(0)", [one.ratio for one in self._at(i)], "theta_ratio", exact)]
            rows.append(
                ["share left", *(f"{one.share:.2%}" for one in self._at(i)), *([""] if exact else [])]
            )
            for observable in self.observables:
                numbers = [one.numbers.get(observable.name) for one in self._at(i)]
                if any(numbers):
                    rows.append(self._line(self.label(observable), numbers, observable.name, exact))
            lines = [head, ["---"] * len(head), *rows]
            table = "\n".join(
                "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
            )
            drowned = [column.heading for column in self.columns if column.angles[i].drowned]
            words = f"\n\nDrowned in noise: {', '.join(drowned)}." if drowned else ""
            yield f"## θ = {theta / math.pi:g} π\n\n{table}{words}"

    def _at(self, i: int) -> list[AtTheta]:
        return [column.angles[i] for column in self.columns]

    @staticmethod
    def _line(
        label: str,
        numbers: Sequence[Measurement | None],
        name: str,
        exact: Mapping[str, Measurement] | None,
    ) -> list[str]:
        cells = [label, *("" if one is None else str(one) for one in numbers)]
        if exact is None:
            return cells
        return [*cells, f"{exact[name].value:.8g}" if name in exact else ""]


_EXPLANATION = (
    "Averages over the configurations that were sampled at θ = 0, with the weight exp(iθQ) of their sector; "
    "of what charge conjugation turns around, the imaginary part. The cost is Z(θ)/Z(0) = ⟨cos θQ⟩, and the "
    "share of the configurations that is left. Where the ratio is not known to be five errors from zero, "
    "everything else drowns in noise and is left out."
)


def theta_table(run: "Run", angles: Sequence[float]) -> ThetaTable:
    """The theory of a run at other θ, from what was sampled at θ = 0.

    Args:
        run: with samples of the model, of the chain beside it, or of both.
        angles: the values of θ.

    Raises:
        RunFolderError: for a theory without a topological charge or charge conjugation, where nothing is
            sampled yet, or too little for errors.
    """
    action = run.action
    if not action.z2_symmetric or all(one.name != CHARGE for one in action.observables):
        raise RunFolderError(
            f"{run.path}: expected a theory with a topological charge that charge conjugation turns around, "
            f"for which there is a θ, got {action.words.name}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreliableErrorWarning)
            return _table(Evidence.of(run), angles)
    except ValueError as error:
        raise RunFolderError(f"{run.path} has too little for errors at other θ: {error}") from error


def _table(evidence: Evidence, angles: Sequence[float]) -> ThetaTable:
    action = evidence.action
    columns = [
        ThetaColumn(name, heading, [_at(action, theta, series, weighted) for theta in angles])
        for name, heading, series, weighted in _samples(evidence)
    ]
    known = [action.known_at_theta(theta) for theta in angles] if isinstance(action, KnownAtTheta) else []
    found = {name for column in columns for one in column.angles for name in one.numbers}
    rows = [one for one in action.observables if one.name in found]
    return ThetaTable(list(angles), columns, rows, known)


def _samples(evidence: Evidence) -> Iterator[tuple[str, str, Series, bool]]:
    """Of each way its name, heading, series, and whether these are weighted draws."""
    if evidence.model is not None:
        yield "model", evidence.model.words.heading, evidence.model.series, False
    if evidence.draws:
        yield "weights", "NIS", evidence.draws, True
    if evidence.beside is not None:
        yield "beside", evidence.beside.words.heading, evidence.beside.series, False


def _at(action: Action, theta: float, series: Series, weighted: bool) -> AtTheta:
    log_weight = series["log_weight"] if weighted else None
    factor = None if action.reweighting is None else series[action.reweighting]
    return at_theta(theta, series, action.observables, log_weight, factor, CHARGE)


def _plain(m: Measurement) -> dict[str, Any]:
    numbers = {"value": m.value, "error": m.error}
    return {name: number if math.isfinite(number) else str(number) for name, number in numbers.items()}
