"""Topology of U(1) links: how HMC, HMC through a flow, flow proposals and sector hops change the charge."""

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from latflow.analysis import Measurement
from latflow.exact import u1_charge_squared
from latflow.flows import gauge_flow
from latflow.papers.bench import Bench, Experiment, Findings, Table, break_even
from latflow.papers.topology_study import (
    ALGORITHMS,
    Effort,
    TopologySettings,
    algorithms,
    chain,
    training_at,
)
from latflow.report.style import GREY, label, new_figure, styled

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
    flow = gauge_flow(
        (settings.trained_at,) * 2,
        layers=settings.layers,
        scalar_map="projection",
        bins=settings.components,
        hidden=settings.hidden,
        dilation=1,
        activation="silu",
        generator=bench.generator("weights"),
    )
    trainings, found = {}, {}
    for beta in settings.ladder:
        trainings[beta] = bench.part(
            f"training {beta:g}", lambda beta=beta: training_at(bench, settings, flow, beta)
        )
        flow.load_state_dict(
            {key: torch.tensor(values) for key, values in trainings[beta]["weights"].items()}
        )
        for side in settings.sides if beta in settings.betas else ():
            for name in algorithms(settings, beta):
                found[side, beta, name] = bench.part(
                    f"{side} {beta:g} {name}",
                    lambda side=side, beta=beta, name=name: chain(bench, settings, flow, side, beta, name),
                )
    tables = [
        Table(
            HEAD,
            [
                _line(side, beta, name, found[side, beta, name], _paid(trainings, found, side, beta, name))
                for beta in settings.betas
                for name in algorithms(settings, beta)
            ],
        )
        for side in settings.sides
    ]
    quality = Table(
        ("β", "F_q + log Z", "ESS at the end", "seconds of training"),
        [
            [f"{beta:g}", f"{one['excess']:.2f}", f"{one['ess']:.3f}", f"{one['cpu_seconds']:.0f}"]
            for beta, one in trainings.items()
        ],
    )
    return Findings(_text(settings), [*tables, quality], {"topology": _figure(settings, found)})


def _paid(
    trainings: dict[float, dict[str, Any]],
    found: dict[tuple[int, float, str], dict[str, Any]],
    side: int,
    beta: float,
    name: str,
) -> str:
    """Where an algorithm that needs the flow has overtaken HMC, the training up to this β included."""
    if name not in ("flowed", "proposals"):
        return ""
    training = sum(one["cpu_seconds"] for at, one in trainings.items() if at <= beta)
    costs = (
        2e3 * one["tau"] * one["seconds_a_step"]
        for one in (found[side, beta, "hmc"], found[side, beta, name])
    )
    return break_even(training, *costs)


def _line(side: int, beta: float, name: str, found: dict[str, Any], paid: str) -> list[str]:
    tau = Measurement(found["tau"], found["tau_error"])
    cost = 2e3 * found["seconds_a_step"]
    # a history much shorter than τ sees no more of the autocorrelation than its own length
    known = "" if found["steps"] > 20 * tau.value else "> "
    displacement = [Measurement(*found["displacement"][lag - 1]) for lag in (1, 10)]
    return [
        ALGORITHMS[name][0],
        f"{side}×{side}",
        f"{beta:g}",
        str(Measurement(*found["charge_squared"])),
        f"{u1_charge_squared((side, side), beta):.4f}",
        f"{found['acceptance']:.2f}",
        "" if found["other"] is None else f"{found['other']:.3f}",
        str(found["forces"]),
        *map(str, displacement),
        str(Measurement(*found["tunnelling"])),
        f"{known}{tau}",
        f"{cost / 2:.3g}",
        f"{known}{Measurement(tau.value * cost, tau.error * cost)}",
        paid,
    ]


def _text(settings: TopologySettings) -> str:
    side = settings.trained_at
    return (
        f"U(1) gauge theory, leapfrog, trajectory length 1, step sizes tuned to an acceptance of "
        f"{settings.acceptance}. Every chain starts at an exact, independent draw of the theory, so that "
        "⟨Q²⟩ is right from the first step, and frozen chains show as small ⟨(ΔQ)²⟩ and large τ_Q. "
        f"A gauge flow of {settings.layers} layers with smooth projection maps is trained at {side}×{side} "
        f"for {settings.training} steps of {settings.batch} draws at each β in turn, each from the weights "
        "of the one before, and serves the other lattices as it is. Flow proposals and sector hops take "
        "turns with trajectories of HMC, one each in a step. A time marked > is longer than a twentieth of "
        "the history, and only bounded by it; the seconds are those of one processor core for one chain of "
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
            for name in algorithms(settings, beta):
                text, colour, marker = ALGORITHMS[name]
                values = np.array(found[side, beta, name]["displacement"])
                look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none", "label": text}
                axes.errorbar(lags, values[:, 0], yerr=values[:, 1], **look)
            axes.axhline(exact, color=GREY, linewidth=0.8)
            axes.set_yscale("symlog", linthresh=1e-3)
            label(axes, rf"{side}×{side}, $\beta$ = {beta:g}", "lag", r"$\langle(\Delta Q)^2\rangle$")
    panels[0][0].legend(loc="lower right", fontsize=6)
    return figure


EXPERIMENT = Experiment(
    title="Topology of U(1) gauge theory: HMC through flows, flow proposals, sector hops",
    source="Foreman, HMC with normalizing flows, arXiv:2112.01586",
    run=run,
    settings=TopologySettings(),
    quick=TopologySettings(
        ladder=(1.0,),
        betas=(1.0,),
        flowed_at=(1.0,),
        trained_at=4,
        sides=(4, 8),
        layers=8,
        hidden=(2,),
        components=2,
        training=3,
        batch=4,
        rounds=2,
        efforts={name: Effort(4, 30) for name in ALGORITHMS},
    ),
)
"""A quarter of an hour on one core."""
