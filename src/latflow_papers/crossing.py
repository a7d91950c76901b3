"""The critical point of φ⁴ from models that serve a range of couplings, beside cluster chains."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from latflow.analysis import Average, Measurement, crossing
from latflow.figures import BLUE, INK, ORANGE, label, new_figure, styled
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.crossing_study import CrossingSettings, Study
from latflow_papers.results import Cell, Number, Table, number

QUANTITIES = {"m_abs": "⟨|M|⟩", "m2": "V⟨M²⟩", "xi": "ξ", "binder": "U"}
"""What the curves are of."""

Curves = Mapping[int, Mapping[str, list[Average]]]
"""By L and by name."""


def run(bench: Bench, settings: CrossingSettings) -> Findings:
    """Train a model on each lattice, draw at a few couplings, and find where the cumulants cross."""
    study = Study(bench, settings)
    for side in settings.sides:
        study.training(side)
    curves = {side: study.curves(side) for side in settings.sides}
    checks = [_check(study, curves, side, number) for side in settings.sides for number in settings.checked]
    pulls = [row[1 + 3 * place] for row in checks for place in (1, 2, 3)]
    chi_squared = sum(float(one.value) ** 2 for one in pulls if isinstance(one, Number))
    numbers: dict[str, Cell] = {"chi_squared": number(chi_squared, ".1f"), "pulls": len(pulls)}
    tables = [
        _models(study),
        _curves(study, curves),
        Table("checks", _checks_head(), checks),
        _crossings(study, curves, numbers),
    ]
    return Findings(_text(settings), tables, {"crossing": _figure(study, curves)}, numbers)


def _models(study: Study) -> Table:
    """How well each model does at each coupling, and what it costs."""
    head = (
        "L",
        "training [s]",
        "ms a draw",
        *(f"ESS at β = {study.couplings[own]:.4g}" for own in study.own),
    )
    rows, seconds = [], 0.0
    for side in study.settings.sides:
        found = study.draws(side)
        seconds += study.training(side)["cpu_seconds"]
        draws = study.settings.draws * study.settings.sets
        cells: list[Cell] = [side, number(seconds, ".0f"), number(1e3 * found["cpu_seconds"] / draws, ".2g")]
        rows.append(cells + [number(ess, ".3f") for ess in found["ess"]])
    return Table("models", head, rows)


def _curves(study: Study, curves: Curves) -> Table:
    rows: list[list[Cell]] = [
        [side, number(study.couplings[own], ".4g"), *(found[name][own].measurement for name in QUANTITIES)]
        for side, found in curves.items()
        for own in study.own
    ]
    return Table("curves", ("L", "β", *QUANTITIES.values()), rows)


def _checks_head() -> tuple[str, ...]:
    parts = ((name, "clusters", "pull") for key, name in QUANTITIES.items() if key != "m_abs")
    return ("L", "β", *(text for part in parts for text in part))


def _check(study: Study, curves: Curves, side: int, set_number: int) -> list[Cell]:
    """The curves beside cluster chains at one coupling."""
    own = study.own[set_number]
    chain = study.chain(side, set_number)["found"]
    row: list[Cell] = [side, number(study.couplings[own], ".4g")]
    for name in QUANTITIES:
        if name == "m_abs":
            continue
        mine, theirs = curves[side][name][own].measurement, Measurement(*chain[name])
        pull = (mine.value - theirs.value) / math.hypot(mine.error, theirs.error)
        row += [mine, theirs, number(pull, ".1f")]
    return row


def _crossings(study: Study, curves: Curves, numbers: dict[str, Cell]) -> Table:
    """Where U(L) = U(2L), and the value there; "none" where noise makes it none or several."""
    rows: list[list[Cell]] = []
    for small, large in itertools.pairwise(study.settings.sides):
        try:
            found: tuple[Cell, Cell] = crossing(
                study.couplings, curves[small]["binder"], curves[large]["binder"]
            )
        except ValueError:
            found = "none", "none"
        numbers[f"beta_{small}"], numbers[f"binder_{small}"] = found
        rows.append([small, large, *found])
    return Table("crossings", ("L", "L′", "β where U(L) = U(L′)", "U there"), rows)


def _text(settings: CrossingSettings) -> str:
    told = "; ".join(
        f"of L = {small} and {large} at β = $beta_{small}, where U = $binder_{small}"
        for small, large in itertools.pairwise(settings.sides)
    )
    low, high = settings.ends
    return (
        f"φ⁴ with λ = {settings.lam:g} by hopping parameter, from β = {low:g} to {high:g} through its "
        "critical point. One multilevel density serves the whole range on each lattice: the numbers of its "
        f"networks are polynomials of β. It is trained by soft labels at {settings.knots} knots and at β = "
        f"{settings.beta:g}, with no other sampler, on each lattice from the weights of the smaller one; the "
        "seconds of training are those of one processor core, and add up. "
        f"{settings.draws} independent draws at each of {settings.sets} couplings are pooled into averages "
        "at every coupling, and errors have all correlations. ESS is that of the draws at their own "
        f"coupling. The cumulants U = 1 − ⟨M⁴⟩/3⟨M²⟩² cross: {told}. Swendsen's and Wang's clusters of the "
        f"signs with sweeps of the heat bath, {settings.chains} chains of {settings.updates} updates, check "
        f"the curves at {len(settings.checked)} couplings: χ² = $chi_squared of $pulls pulls, where those of "
        "one row are correlated."
    )


@styled
def _figure(study: Study, curves: Curves) -> Figure:
    figure = new_figure(7.8, 2.8)
    panels: dict[str, Any] = dict(zip(("m2", "xi", "binder"), figure.subplots(1, 3), strict=True))
    colours = (ORANGE, BLUE, INK)
    for (side, found), colour in zip(curves.items(), itertools.cycle(colours)):
        for name, axes in panels.items():
            scale = side if name == "xi" else 1
            points = [one.measurement for one in found[name]]
            value, error = (
                np.array([getattr(one, what) for one in points]) / scale for what in ("value", "error")
            )
            axes.plot(study.couplings, value, color=colour, label=f"L = {side}")
            axes.fill_between(study.couplings, value - error, value + error, color=colour, alpha=0.3)
            for checked in study.settings.checked:
                theirs = study.chain(side, checked)["found"][name]
                beta = study.couplings[study.own[checked]]
                axes.errorbar(beta, theirs[0] / scale, yerr=theirs[1] / scale, color=colour, marker="o")
    panels["m2"].set_yscale("log")
    for name, text in (("m2", r"$V\langle M^2\rangle$"), ("xi", r"$\xi/L$"), ("binder", "$U$")):
        label(panels[name], text, r"$\beta$", "")
    panels["binder"].legend(fontsize=6)
    return figure


EXPERIMENT = Experiment(
    name="crossing",
    title="The critical point of φ⁴ from models for a range of couplings",
    source="Binder, Finite size scaling analysis of Ising model block distribution functions, Z. Phys. B 43 "
    "(1981) 119",
    run=run,
    settings=CrossingSettings(),
    quick=CrossingSettings(
        sides=(4, 8),
        sets=3,
        between=1,
        draws=64,
        steps=(4, 4),
        batch=8,
        learning_rate=1e-3,
        knots=2,
        checked=(1,),
        chains=4,
        updates=40,
        thermalisation=4,
    ),
)
"""A quarter of an hour on one core."""
