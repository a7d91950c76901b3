"""What an independent configuration of φ⁴ costs: tuned HMC, minimal flows, and flows as deep as they pay."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from latflow.analysis import Measurement
from latflow.figures import BLUE, GREY, INK, ORANGE, label, new_figure, styled
from latflow_papers.acceleration_study import STUDY, AccelerationSettings, Comparison, milliseconds
from latflow_papers.bench import Bench, Experiment, Findings, break_even
from latflow_papers.magnetization import Row
from latflow_papers.results import Cell, Number, Table, number
from latflow_papers.trivializing_study import SOURCE

FAMILIES = {
    "HMC": (INK, "o"),
    "Fourier HMC": (GREY, "v"),
    "minimal flow": (ORANGE, "s"),
    "deep flow": (BLUE, "^"),
}
"""What is compared: the first words of each algorithm, with colour and marker."""

HEAD = (
    "algorithm",
    "V⟨M²⟩",
    "acceptance",
    "forces",
    "τ_M",
    "2τ_M × forces",
    "2τ_M [ms]",
    "gain in τ_M",
    "gain in time",
    "training [s]",
    "break-even",
)


def run(bench: Bench, settings: AccelerationSettings) -> Findings:
    """Train the flows at every point, run all chains from equilibrium, and lay their costs side by side."""
    comparison = Comparison(bench, settings)
    groups = [comparison.point(number) for number in range(len(settings.study.points))]
    tables = [
        Table(f"L{group[0].lattice[0]}", _head(group[0]), [_line(group, row) for row in group])
        for group in groups
    ]
    exponents = _exponents(groups)
    return Findings(_text(groups, exponents), tables, {"acceleration": _figure(groups)}, exponents)


def _head(first: Row) -> tuple[str, ...]:
    return (f"{'×'.join(map(str, first.lattice))}, β = {first.beta}", *HEAD[1:])


def _line(group: Sequence[Row], row: Row) -> list[Cell]:
    best = min((one for one in group if one.found["training"] is None), key=milliseconds)
    found, cost = row.found, row.tau_in_milliseconds
    training = found["training"]
    return [
        row.algorithm,
        Measurement(found["m2"], found["m2_error"]),
        number(found["acceptance"], ".2f"),
        found["forces"],
        row.tau,
        number(2 * row.tau.value * found["forces"], ".0f") if found["forces"] else "",
        Measurement(2 * cost.value, 2 * cost.error),
        row.reduction(group[0]),
        number(milliseconds(best) / milliseconds(row), ".2g"),
        "" if training is None else number(training, ".0f"),
        "" if training is None else break_even(training, milliseconds(best), milliseconds(row)),
    ]


def _cheapest(group: Sequence[Row], family: str) -> Row:
    return min((row for row in group if row.algorithm.startswith(f"{family}, ")), key=milliseconds)


def _exponents(groups: Sequence[Sequence[Row]]) -> dict[str, Number]:
    """x of 2τ_M [ms] ∝ L^x from the first to the last lattice, the fastest of each kind."""
    first, last = groups[0], groups[-1]
    ratio = last[0].lattice[0] / first[0].lattice[0]
    if ratio == 1:
        return {}
    costs = {
        family: milliseconds(_cheapest(last, family)) / milliseconds(_cheapest(first, family))
        for family in FAMILIES
    }
    return {
        f"exponent_{family.replace(' ', '_')}": number(math.log(cost) / math.log(ratio), ".1f")
        for family, cost in costs.items()
    }


def _text(groups: Sequence[Sequence[Row]], exponents: dict[str, Number]) -> str:
    text = (
        "φ⁴ with λ = 0.5 at ξ = L/4. 2τ_M [ms] is the time of one processor core for an independent value of "
        "M in one of many chains, with trajectories that are compiled (not those through the deep flow: the "
        "compiler takes minutes for it). The gain in τ_M is over HMC of the first trajectory length, the "
        "gain in time over the fastest HMC without a flow, and break-even is the number of independent "
        "configurations after which training and sampling together have cost less than that HMC. The minimal "
        "flow is the one of the slides with k = 3; the deep flow has a Fourier layer, spline couplings and a "
        "map for all sites, is trained by the path gradient, on each lattice from the weights of the smaller "
        "one, and its training adds up. "
    )
    if not exponents:
        return text
    sides = [group[0].lattice[0] for group in (groups[0], groups[-1])]
    told = [f"{family} ${name}" for family, name in zip(FAMILIES, exponents, strict=True)]
    return text + (
        f"Exponent x of 2τ_M [ms] ∝ L^x at fixed ξ/L from L = {sides[0]} to {sides[1]}, the fastest of each "
        f"kind: {', '.join(told)}."
    )


@styled
def _figure(groups: Sequence[Sequence[Row]]) -> Figure:
    figure = new_figure(5.2, 3.6)
    axes = figure.subplots()
    sides = [group[0].lattice[0] for group in groups]
    for family, (colour, marker) in FAMILIES.items():
        rows = [_cheapest(group, family) for group in groups]
        costs = np.array([(row.tau_in_milliseconds.value, row.tau_in_milliseconds.error) for row in rows])
        look: dict[str, Any] = {"color": colour, "marker": marker, "label": family}
        axes.errorbar(sides, 2 * costs[:, 0], yerr=2 * costs[:, 1], **look)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    label(axes, "An independent configuration at ξ = L/4", "L", r"$2\tau_M$ [ms of one core]")
    axes.legend()
    return figure


EXPERIMENT = Experiment(
    name="acceleration",
    title="What an independent configuration of φ⁴ costs: HMC and flows",
    source=SOURCE,
    run=run,
    settings=AccelerationSettings(),
    quick=AccelerationSettings(
        study=replace(
            STUDY,
            points=((4, 0.46), (8, 0.576)),
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
        deep_steps=(3, 3),
        deep_batch=4,
        proposals=20,
        cycles=10,
        deep_trajectories=10,
        share=0.5,
    ),
)
"""Half an hour on one core."""
