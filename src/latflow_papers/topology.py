"""Topology of U(1) links: how HMC, HMC through a flow, flow proposals and sector hops change the charge."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from latflow.analysis import Measurement
from latflow.exact import u1_charge_squared
from latflow.figures import GREY, label, new_figure, styled
from latflow_papers.bench import Bench, Experiment, Findings, break_even
from latflow_papers.results import Cell, Number, Table, number
from latflow_papers.topology_study import (
    ALGORITHMS,
    Effort,
    TopologySettings,
    chain,
    new_flow,
    training_at,
)

HEAD = (
    "algorithm",
    "lattice",
    "β",
    "⟨Q²⟩",
    "exact",
    "acceptance",
    "of the other",
    "forces",
    "⟨(ΔQ)²⟩ at 1",
    "at 10",
    "tunnelling",
    "τ_Q",
    "ms a step",
    "2τ_Q [ms]",
    "break-even",
)


def run(bench: Bench, settings: TopologySettings) -> Findings:
    """Train the flow at every β, run all chains from exact draws, and lay them side by side."""
    trainings, found = {}, {}
    for beta, prior in zip(settings.betas, settings.priors, strict=True):
        flow = new_flow(bench, settings, prior)
        trainings[beta] = bench.part(
            f"training {beta:g}",
            lambda beta=beta, flow=flow: training_at(bench, settings, flow, beta),
        )
        flow.load_state_dict(trainings[beta]["weights"])
        for side in settings.sides:
            for name in ALGORITHMS:
                found[side, beta, name] = bench.part(
                    f"{side} {beta:g} {name}",
                    lambda side=side, beta=beta, name=name, flow=flow: chain(
                        bench, settings, flow, side, beta, name
                    ),
                )
    tables = [
        Table(
            f"L{side}",
            HEAD,
            [
                _line(side, beta, name, found, trainings[beta]["cpu_seconds"])
                for beta in settings.betas
                for name in ALGORITHMS
            ],
        )
        for side in settings.sides
    ]
    quality = Table(
        "training",
        ("β", "β of the prior", "F_q + log Z", "ESS at the end", "seconds of training"),
        [
            [
                number(beta, "g"),
                number(prior, "g"),
                number(one["excess"], ".2f"),
                number(one["ess"], ".3f"),
                number(one["cpu_seconds"], ".0f"),
            ]
            for (beta, one), prior in zip(trainings.items(), settings.priors, strict=True)
        ],
    )
    return Findings(_text(settings), [*tables, quality], {"topology": _figure(settings, found)})


def _line(
    side: int,
    beta: float,
    name: str,
    all_found: dict[tuple[int, float, str], dict[str, Any]],
    training: float,
) -> list[Cell]:
    found, alone = all_found[side, beta, name], all_found[side, beta, "hmc"]
    times = [2e3 * one["tau"] * one["seconds_a_step"] for one in (alone, found)]
    tau = Measurement(found["tau"], found["tau_error"])
    cost = 2e3 * found["seconds_a_step"]
    price = Measurement(tau.value * cost, tau.error * cost)
    # a history much shorter than τ sees no more of the autocorrelation than its own length
    known = found["steps"] > 20 * tau.value
    displacement = [_cell(found["displacement"][lag - 1]) for lag in (1, 10)]
    return [
        ALGORITHMS[name][0],
        f"{side}×{side}",
        number(beta, "g"),
        _cell(found["charge_squared"]),
        number(u1_charge_squared((side, side), beta), ".4f"),
        number(found["acceptance"], ".2f"),
        "" if found["other"] is None else number(found["other"], ".3f"),
        found["forces"],
        *displacement,
        _cell(found["tunnelling"]),
        tau if known else _above(tau),
        number(cost / 2, ".3g"),
        price if known else _above(price),
        break_even(training, *times) if name in ("flowed", "proposals") else "",
    ]


def _cell(pair: list[float]) -> Cell:
    """A value with its error, or alone where no chain has changed it."""
    value, error = pair
    return number(value, ".4g") if math.isnan(error) else Measurement(value, error)


def _above(bound: Measurement) -> Number:
    """What a history too short for it only bounds from below."""
    return Number(bound.value, f"> {bound}", bound.error)


def _text(settings: TopologySettings) -> str:
    side = settings.trained_at
    return (
        f"U(1) gauge theory, leapfrog, trajectory length 1, step sizes tuned to an acceptance of "
        f"{settings.acceptance}. Every chain starts at an exact, independent draw of the theory, so that "
        "⟨Q²⟩ is right from the first step, and frozen chains show as small ⟨(ΔQ)²⟩ and large τ_Q. "
        f"A gauge flow of {settings.layers} layers with smooth projection maps is trained at {side}×{side} "
        f"for {settings.training} steps of {settings.batch} draws at each β, from exact draws of the pure "
        "gauge theory at a smaller β or from uniform links, and serves the other lattices as it is. Flow "
        "proposals and sector hops take turns with trajectories of HMC, one each in a step. A time marked > "
        "is longer than a twentieth of the history, and only bounded by it; the seconds are those of one "
        "processor core for one chain of "
        "many. Break-even is the number of independent charges after which the training has paid, against "
        "HMC alone. ⟨(ΔQ)²⟩ tends to 2⟨Q²⟩ at large lags, at lag 1 for independent configurations."
    )


@styled
def _figure(settings: TopologySettings, found: dict[tuple[int, float, str], dict[str, Any]]) -> Figure:
    figure = new_figure(2.6 * len(settings.betas), 2.6 * len(settings.sides))
    panels = figure.subplots(len(settings.sides), len(settings.betas), squeeze=False)
    lags = range(1, 11)
    for side, row in zip(settings.sides, panels, strict=True):
        for beta, axes in zip(settings.betas, row, strict=True):
            exact = 2 * u1_charge_squared((side, side), beta)
            for name, (text, colour, marker) in ALGORITHMS.items():
                values = np.array(found[side, beta, name]["displacement"])
                look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none", "label": text}
                axes.errorbar(lags, values[:, 0], yerr=values[:, 1], **look)
            axes.axhline(exact, color=GREY, linewidth=0.8)
            axes.set_yscale("symlog", linthresh=1e-3)
            label(axes, rf"{side}×{side}, $\beta$ = {beta:g}", "lag", r"$\langle(\Delta Q)^2\rangle$")
    panels[0][0].legend(loc="lower right", fontsize=6)
    return figure


EXPERIMENT = Experiment(
    name="topology",
    title="Topology of U(1) gauge theory: HMC through flows, flow proposals, sector hops",
    source="Foreman, HMC with normalizing flows, arXiv:2112.01586",
    run=run,
    settings=TopologySettings(),
    quick=TopologySettings(
        betas=(1.0,),
        priors=(0.5,),
        trained_at=4,
        sides=(4, 8),
        layers=2,
        hidden=(2,),
        components=2,
        training=3,
        batch=4,
        rounds=2,
        efforts={name: Effort(4, 16) for name in ALGORITHMS},
    ),
)
"""A quarter of an hour on one core."""
