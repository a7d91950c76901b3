"""What an independent configuration of φ⁴ costs: HMC, flows, clusters, and a multilevel density."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from latflow.analysis import Measurement
from latflow.figures import LOOKS, label, new_figure, styled
from latflow_papers.acceleration_study import STUDY, AccelerationSettings, Comparison
from latflow_papers.bench import Bench, Experiment, Findings, break_even
from latflow_papers.magnetization import Row
from latflow_papers.results import Cell, Number, Table, number
from latflow_papers.trivializing_study import SOURCE

FAMILIES = ("HMC", "Fourier HMC", "minimal flow", "deep flow", "clusters", "multilevel")
"""What is compared: the first words of each algorithm."""

OBSERVED = {"m": "M", "m2": "M²"}
"""Of which τ is measured, by the names in the numbers."""

HEAD = (
    "algorithm",
    "V⟨M²⟩",
    "acceptance",
    "forces",
    "τ_M",
    "2τ_M [ms]",
    "gain",
    "τ_M²",
    "2τ_M² [ms]",
    "gain",
    "training [s]",
    "break-even",
)


def run(bench: Bench, settings: AccelerationSettings) -> Findings:
    """Train the models at every point, run all chains from equilibrium, and lay their costs side by side."""
    groups = Comparison(bench, settings).points()
    tables = [
        Table(f"L{group[0].lattice[0]}", _head(group[0]), [_line(group, row) for row in group])
        for group in groups
    ]
    exponents = _exponents(groups)
    return Findings(_text(groups, exponents), tables, {"acceleration": _figure(groups)}, exponents)


def _cost(row: Row, observed: str) -> Measurement:
    """2τ in milliseconds."""
    cost = row.in_milliseconds(row.tau if observed == "m" else row.tau_of_m2)
    return Measurement(2 * cost.value, 2 * cost.error)


def _head(first: Row) -> tuple[str, ...]:
    return (f"{'×'.join(map(str, first.lattice))}, β = {first.beta}", *HEAD[1:])


def _line(group: Sequence[Row], row: Row) -> list[Cell]:
    found, training = row.found, row.found["training"]
    cells: list[Cell] = [
        row.algorithm,
        Measurement(found["m2"], found["m2_error"]),
        number(found["acceptance"], ".2f"),
        found["forces"] or "",
    ]
    for observed, tau in (("m", row.tau), ("m2", row.tau_of_m2)):
        cost = _cost(row, observed)
        cells += [tau, cost, number(_of_hmc(group, observed) / cost.value, ".2g")]
    if training is None:
        return [*cells, "", ""]
    mine = _cost(row, "m2").value
    return [*cells, number(training, ".0f"), break_even(training, _of_hmc(group, "m2"), mine)]


def _of_hmc(group: Sequence[Row], observed: str) -> float:
    """2τ in milliseconds of the fastest HMC without a flow."""
    return min(
        _cost(row, observed).value for row in group if row.algorithm.startswith(("HMC, ", "Fourier HMC, "))
    )


def _cheapest(group: Sequence[Row], family: str, observed: str) -> Measurement | None:
    costs = [_cost(row, observed) for row in group if row.algorithm.startswith(f"{family}, ")]
    return min(costs, key=lambda cost: cost.value, default=None)


def _costs(groups: Sequence[Sequence[Row]], family: str, observed: str) -> dict[int, Measurement]:
    """2τ in milliseconds by L, the fastest of a kind on each lattice where there is one."""
    found = {group[0].lattice[0]: _cheapest(group, family, observed) for group in groups}
    return {side: cost for side, cost in found.items() if cost is not None}


def _exponents(groups: Sequence[Sequence[Row]]) -> dict[str, Number]:
    """x of 2τ [ms] ∝ L^x from the first to the last lattice of each kind, the fastest of each."""
    found: dict[str, Number] = {}
    for family in FAMILIES:
        for observed in OBSERVED:
            costs = _costs(groups, family, observed)
            first, last = min(costs), max(costs)
            if first < last:
                x = math.log(costs[last].value / costs[first].value) / math.log(last / first)
                found[f"exponent_{family.replace(' ', '_')}_{observed}"] = number(x, ".1f")
    return found


def _text(groups: Sequence[Sequence[Row]], exponents: dict[str, Number]) -> str:
    text = (
        "φ⁴ with λ = 0.5 at ξ = L/4. 2τ [ms] is the time of one processor core for an independent value of "
        "M, or of M², in one of many chains, with trajectories that are compiled (not those through the deep "
        "flow: the compiler takes minutes for it). The gain is over the fastest HMC without a flow, and "
        "break-even is the number of independent M² after which training and sampling together have cost "
        "less than that HMC. The minimal flow is the one of the slides with k = 3; the deep flow has a "
        "Fourier layer, spline couplings and a map for all sites, and is trained by the path gradient; the "
        "multilevel density draws the field from the coarsest scale to the finest, and is trained by soft "
        "labels. Both are trained on each lattice from the weights of the smaller one, and their training "
        "adds up. Clusters are Swendsen's and Wang's of the signs, with a sweep of the heat bath. "
    )
    told = []
    for family in FAMILIES:
        sides = sorted(_costs(groups, family, "m"))
        names = [f"exponent_{family.replace(' ', '_')}_{observed}" for observed in OBSERVED]
        if names[0] in exponents:
            told.append(f"{family} ${names[0]} and ${names[1]} (L = {sides[0]} to {sides[-1]})")
    if not told:
        return text
    return text + (
        "Exponents x of 2τ [ms] ∝ L^x at fixed ξ/L, of M and of M², the fastest of each kind: "
        f"{', '.join(told)}."
    )


@styled
def _figure(groups: Sequence[Sequence[Row]]) -> Figure:
    figure = new_figure(7.8, 3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (observed, text) in zip(panels, (("m", "M"), ("m2", "M^2")), strict=True):
        for family, look in zip(FAMILIES, LOOKS, strict=True):
            costs = _costs(groups, family, observed)
            values, errors = (
                np.array([getattr(cost, what) for cost in costs.values()]) for what in ("value", "error")
            )
            drawn: dict[str, Any] = {"color": look.colour, "marker": look.marker, "label": family}
            axes.errorbar(list(costs), values, yerr=errors, **drawn)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        label(axes, f"An independent ${text}$ at ξ = L/4", "L", rf"$2\tau_{{{text}}}$ [ms of one core]")
    panels[0].legend(fontsize=7)
    return figure


EXPERIMENT = Experiment(
    name="acceleration",
    title="What an independent configuration of φ⁴ costs: HMC, flows, clusters and a multilevel density",
    source=SOURCE,
    run=run,
    settings=AccelerationSettings(),
    quick=AccelerationSettings(
        study=replace(
            STUDY,
            points=((4, 0.46),),
            chains=4,
            trajectories=10,
            steps=3,
            batch=4,
            rounds=2,
            compiled=False,
        ),
        lengths=(1.0, 2.0),
        fourier_lengths=(2.0,),
        latent_lengths=(1.0,),
        layers=2,
        deep_steps=(3,),
        deep_batch=4,
        proposals=20,
        cycles=10,
        deep_trajectories=10,
        share=0.5,
        further=((8, 0.576),),
        further_lengths=(2.0,),
        multilevel_steps=(8, 8),
        multilevel_batch=4,
        multilevel_columns=64,
        multilevel_proposals=60,
        thermalisation=5,
    ),
)
"""Three hours on one core."""
