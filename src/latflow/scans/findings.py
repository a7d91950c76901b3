"""What the runs of a scan have found, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latflow.config import Axis
from latflow.observables.base import Observable
from latflow.scans.critical import LATTICE, Critical, applies, critical, side
from latflow.scans.folder import ScanFolder
from latflow.scans.groups import Group, Settings, arranged, grouped


@dataclass(frozen=True)
class Findings:
    """All that a scan has found.

    Attributes:
        name: of the scan.
        keys: that are scanned, seeds not among them.
        parameter: the key along which curves are drawn: the first number of the theory that is scanned, or
            else the first number of anything, or else the lattice; None where there is none of these.
        along: the keys that change together with it.
        groups: in the order of the runs.
        observables: that some run has, in the order of the first that has them.
        ways: the headings of the ways to know a number, by their names and in their order.
        sampled: those that rest on draws.
        critical: where lattices are scanned along a coupling.
        notes: what is missing, and why.
    """

    name: str
    keys: tuple[str, ...]
    parameter: str | None
    along: tuple[str, ...]
    groups: tuple[Group, ...]
    observables: tuple[Observable, ...]
    ways: Mapping[str, str]
    sampled: tuple[str, ...]
    critical: tuple[Critical, ...]
    notes: tuple[str, ...]

    @property
    def runs(self) -> int:
        """How many there are."""
        return sum(len(group.runs) for group in self.groups)

    @property
    def seeds(self) -> bool:
        """Whether some numbers are means over several seeds."""
        return any(len(group.runs) > 1 for group in self.groups)

    def curves(self) -> dict[Settings, list[Group]]:
        """The groups that differ in the parameter alone, by their other settings, along the parameter."""
        return {
            settings: sorted(several, key=self.x)
            for settings, several in arranged(self.groups, self.along).items()
        }

    def x(self, group: Group) -> float:
        """The parameter as a number, L of a lattice; the place in the scan where there is none."""
        if self.parameter is None:
            return float(self.groups.index(group))
        value = group.settings[self.parameter]
        return float(side(value) if self.parameter == LATTICE else value)


def findings(folder: ScanFolder) -> Findings:
    """Read what the runs of a scan have found so far."""
    axes = [axis for axis in folder.scan.axes if not axis.seeds]
    parameter, along = _parameter(axes)
    groups = grouped(folder.runs)
    observables = _observables(folder, groups)
    overviews = [found for group in groups for _, found in group.runs]
    sampled = tuple(dict.fromkeys(way for found in overviews for way in found.sampled))
    told = (
        tuple(critical(groups, parameter, axes, observables, sampled, folder.scan.omega))
        if parameter is not None and applies(parameter, axes)
        else ()
    )
    return Findings(
        name=folder.scan.name,
        keys=tuple(key for axis in axes for key in axis.keys if not key.startswith("reference.")),
        parameter=parameter,
        along=along,
        groups=tuple(groups),
        observables=observables,
        ways={way: heading for found in overviews for way, heading in found.ways.items()},
        sampled=sampled,
        critical=told,
        notes=tuple(_notes(folder, groups, bool(told))),
    )


def _notes(folder: ScanFolder, groups: Sequence[Group], fitted: bool) -> Iterator[str]:
    for name in folder.left_out:
        yield f"{name} is there, but no longer in the lists."
    left = [run.name for group in groups if not group.sound for run, _ in group.runs]
    if fitted and left:
        yield f"Fits are made without {', '.join(left)}."


def _parameter(axes: Sequence[Axis]) -> tuple[str | None, tuple[str, ...]]:
    """The key of the curves, and those that change with it."""

    def rank(key: str, values: Sequence[Any]) -> int | None:
        if key == LATTICE:
            return 2
        if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
            return None
        return 0 if key.startswith("action.") else 1

    ranked = [
        (place, key, axis.keys)
        for axis in axes
        for i, key in enumerate(axis.keys)
        if (place := rank(key, [step[i] for step in axis.steps])) is not None
    ]
    if not ranked:
        return None, tuple(key for axis in axes for key in axis.keys)
    _, key, along = min(ranked, key=lambda one: one[0])
    return key, along


def _observables(folder: ScanFolder, groups: Sequence[Group]) -> tuple[Observable, ...]:
    """The records of what some run has found; theories that are alike have the same."""
    there = {name for group in groups for name in group.values}
    found: dict[str, Observable] = {}
    for run in folder.runs:
        if not there - found.keys():
            break
        for one in run.config.action.build().observables:
            if one.name in there and one.label:
                found.setdefault(one.name, one)
    return tuple(found.values())
