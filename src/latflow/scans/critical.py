"""What curves of several lattices, measured along a coupling, tell of a critical point."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latflow.analysis.collapse import Collapse, collapse
from latflow.analysis.scaling import Crossing, Curve, crossings
from latflow.config import Axis
from latflow.lattice import volume
from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.scans.groups import Group, Settings, arranged

LATTICE = "action.lattice"


@dataclass(frozen=True)
class Critical:
    """What the curves of several lattices of one observable tell of a critical point.

    Attributes:
        observable: it is divided by L to the power of its `scaling`.
        settings: the values of the other scanned keys.
        curves: one for each lattice.
        crossings: of neighbouring ones.
        collapse: of all of them.
    """

    observable: Observable
    settings: Settings
    curves: tuple[Curve, ...]
    crossings: tuple[Crossing, ...]
    collapse: Collapse


def side(lattice: Sequence[int]) -> float:
    """L = V^{1/d}; a whole number where all sides are equal."""
    return float(lattice[0]) if len(set(lattice)) == 1 else volume(tuple(lattice)) ** (1 / len(lattice))


def applies(parameter: str | None, axes: Sequence[Axis]) -> bool:
    """Whether a coupling and lattices are scanned, along axes of their own."""
    apart = [axis for axis in axes if LATTICE in axis.keys]
    coupling = parameter is not None and parameter.startswith("action.") and parameter != LATTICE
    return coupling and bool(apart) and parameter not in apart[0].keys


def critical(
    groups: Sequence[Group],
    parameter: str,
    axes: Sequence[Axis],
    observables: Sequence[Observable],
    sampled: Sequence[str],
    omega: float | None,
) -> Iterator[Critical]:
    """Crossings and a finite-size fit of each observable whose curves cross at a critical point.

    Points are the best number of each run, where its error is sound; runs that failed are left out.

    Args:
        groups: of the scan.
        parameter: the coupling.
        axes: of the scan.
        observables: those that were measured.
        sampled: the names of the ways that rest on draws.
        omega: of corrections in the fit, see `collapse`.
    """
    along = [key for axis in axes if {parameter, LATTICE} & set(axis.keys) for key in axis.keys]
    for settings, several in arranged(groups, along).items():
        shapes = {tuple(L / min(lattice) for L in lattice) for lattice in map(_lattice, several)}
        if len(shapes) > 1:
            continue  # lattices of different shapes have different scaling functions
        for observable in observables:
            if observable.scaling is None:
                continue
            curves = list(_curves(several, parameter, observable, sampled))
            if len(curves) > 1:
                fit = collapse(curves, omega)
                yield Critical(observable, settings, tuple(curves), tuple(crossings(curves)), fit)


def _lattice(group: Group) -> list[int]:
    return group.settings[LATTICE]


def _curves(
    groups: Sequence[Group], parameter: str, observable: Observable, sampled: Sequence[str]
) -> Iterator[Curve]:
    by_size: dict[float, list[Group]] = {}
    for group in groups:
        by_size.setdefault(side(_lattice(group)), []).append(group)
    for size, several in sorted(by_size.items()):
        scale = size ** (observable.scaling or 0)
        points: dict[float, Measurement] = {}
        for group in several:
            best = group.best(observable.name, sampled)
            if best is not None and group.sound and _sound(best[1]):
                points[group.settings[parameter]] = Measurement(best[1].value / scale, best[1].error / scale)
        if points:
            yield Curve.of(size, list(points), list(points.values()))


def _sound(m: Measurement) -> bool:
    return math.isfinite(m.value) and 0 < m.error < math.inf and not m.warning
