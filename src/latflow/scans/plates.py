"""The figures of a scan, each with its words."""

import math
from collections.abc import Iterator

from latflow.figures.scans import Panel, Series, Sized, along, critical_point
from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.report.phrases import capital
from latflow.report.plate import Plate
from latflow.scans.critical import LATTICE, Critical
from latflow.scans.findings import Findings
from latflow.scans.tables import in_words, short


def plates(found: Findings) -> Iterator[Plate]:
    """The observables along the parameter, and what several lattices tell of a critical point."""
    panels = [panel for one in found.observables if (panel := _panel(found, one)).series]
    if not panels:
        return
    parameter = symbol(found)
    ticks = [] if found.parameter else [in_words(tuple(group.settings.items())) for group in found.groups]
    against = f"against {parameter}" if parameter else "by the runs"
    seeds = " Points are means over the seeds." if found.seeds else ""
    yield Plate(
        "observables",
        "Observables",
        along(panels, parameter, ticks),
        f"{len(panels)} observables {against}.",
        f"Every observable {against}, by every way there is to know it.{seeds} Points without an "
        "error bar have no error that can be told; a red cross marks a run that failed its validation.",
    )
    for i, one in enumerate(found.critical, 1):
        yield _critical(found, one, f"critical_{one.observable.name}{f'_{i}' if one.settings else ''}")


def symbol(found: Findings) -> str:
    """The parameter on an axis."""
    if found.parameter is None:
        return ""
    if found.parameter == LATTICE:
        return "L"
    return _LETTERS.get(short(found)[found.parameter], short(found)[found.parameter].replace("_", " "))


_LETTERS = {
    "beta": "β",
    "kappa": "κ",
    "theta": "θ",
    "mu": "μ",
    "alpha": "α",
    "gamma": "γ",
    "lam": "λ",
    "m2": "m²",
}
"""How arguments of theories are written, where that is not as they are spelled."""


def _panel(found: Findings, observable: Observable) -> Panel:
    series = []
    for settings, groups in found.curves().items():
        for way, heading in found.ways.items():
            there = [
                (found.x(group), m, group.state == "failed")
                for group in groups
                if (m := group.values.get(observable.name, {}).get(way)) is not None
                and math.isfinite(m.value)
            ]
            if there:
                failed = [i for i, (_, _, state) in enumerate(there) if state]
                exact = way not in found.sampled
                x, points = [x for x, _, _ in there], [m for _, m, _ in there]
                series.append(Series(in_words(settings), heading, x, points, failed, exact))
    return Panel(observable.label, series)


def _critical(found: Findings, one: Critical, name: str) -> Plate:
    parameter, fit = symbol(found), one.collapse
    told = [each.coupling for each in one.crossings if each.coupling is not None]
    curves = [
        Sized(f"$L = {curve.size:g}$", curve.size, curve.coupling, curve.value, curve.error)
        for curve in one.curves
    ]
    power = one.observable.scaling or 0
    quantity = one.observable.in_figures + ("" if not power else "$/L$" if power == 1 else f"$/L^{power}$")
    figure = critical_point(curves, quantity, parameter, told, fit.coupling, fit.nu)
    where = f", {in_words(one.settings)}" if one.settings else ""
    return Plate(
        name,
        f"{capital(one.observable.in_words)} at a critical point{where}",
        figure,
        f"Curves of {len(curves)} lattices against {parameter}.",
        " ".join(_sentences(one, told)),
    )


def _sentences(one: Critical, told: list[Measurement]) -> Iterator[str]:
    if told:
        yield f"Grey: where the curves of neighbouring lattices cross ({', '.join(map(str, told))})."
    fit = one.collapse
    if fit.coupling is None:
        yield f"A finite-size scaling fit tells nothing: {fit.why}."
    else:
        yield (
            f"Dark: the critical point of the finite-size scaling fit, {fit.coupling}, with ν = {fit.nu} and "
            f"χ²/dof = {fit.chi_squared:.1f}/{fit.dof}; on the right all curves with these."
        )
