"""Topology of U(1) links: how HMC, HMC through a flow, flow proposals and sector hops change the charge."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from latflow import samplers
from latflow.actions import U1Gauge
from latflow.analysis import Measurement, charge_displacement, measure, tunnelling_rate
from latflow.estimators import reparametrization
from latflow.exact import u1_charge_squared
from latflow.flows import Flow, QuenchedLinks, gauge_flow
from latflow.observables import topological_charge
from latflow.papers.bench import Bench, Experiment, Findings, Table
from latflow.report.style import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, styled
from latflow.samplers import (
    HMC,
    Cycle,
    IndependenceMetropolis,
    SectorHop,
    flowed_hmc,
    tune_step_size,
)
from latflow.training import Schedule, train
from latflow.types import Links

ALGORITHMS = {
    "hmc": ("HMC", INK, "o"),
    "flowed": ("HMC through the flow", BLUE, "s"),
    "proposals": ("HMC and flow proposals", GREEN, "D"),
    "hops": ("HMC and sector hops", ORANGE, "^"),
}
"""What is compared: name, colour and marker."""


@dataclass(frozen=True)
class Effort:
    """How long one algorithm runs on one lattice: so many chains, so many steps of each."""

    chains: int
    steps: int


@dataclass(frozen=True)
class TopologySettings:
    """What is trained and sampled.

    Attributes:
        ladder: inverse couplings, rising, at which the flow is trained in turn.
        betas: those at which chains run.
        trained_at: the side of the lattice of the training.
        sides: of the lattices that are sampled.
        layers: couplings of the gauge flow.
        hidden: channels of its networks.
        components: of its projection maps.
        training: steps at each β.
        batch: draws of a step.
        learning_rate: of Adam, falling like half a cosine.
        acceptance: to which the step sizes are tuned, at trajectories of length 1.
        rounds: in which they are tuned.
        efforts: of each algorithm; of what passes through the flow on the lattice of the training, where on
            larger ones the number of chains falls with the volume.
    """

    ladder: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
    betas: tuple[float, ...] = (2.0, 5.0, 7.0)
    trained_at: int = 8
    sides: tuple[int, ...] = (8, 16)
    layers: int = 16
    hidden: tuple[int, ...] = (8, 8)
    components: int = 4
    training: int = 600
    batch: int = 64
    learning_rate: float = 5e-3
    acceptance: float = 0.9
    rounds: int = 4
    efforts: dict[str, Effort] = field(
        default_factory=lambda: {
            "hmc": Effort(64, 3000),
            "flowed": Effort(12, 40),
            "proposals": Effort(32, 300),
            "hops": Effort(64, 3000),
        }
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
            f"training {beta:g}", lambda beta=beta: _training(bench, settings, flow, beta)
        )
        flow.load_state_dict(
            {key: torch.tensor(values) for key, values in trainings[beta]["weights"].items()}
        )
        for side in settings.sides if beta in settings.betas else ():
            for name in ALGORITHMS:
                found[side, beta, name] = bench.part(
                    f"{side} {beta:g} {name}",
                    lambda side=side, beta=beta, name=name: _chain(bench, settings, flow, side, beta, name),
                )
    tables = [
        Table(
            HEAD,
            [
                _line(side, beta, name, found[side, beta, name])
                for beta in settings.betas
                for name in ALGORITHMS
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


def _training(bench: Bench, settings: TopologySettings, flow: Flow, beta: float) -> dict[str, Any]:
    lattice = flow.lattice
    before = time.process_time()
    records = list(
        train(
            flow,
            U1Gauge(lattice, beta),
            reparametrization,
            steps=settings.training,
            batch=settings.batch,
            learning_rate=settings.learning_rate,
            schedule=Schedule("cosine", warmup=min(50, settings.training)),
            clip=50.0,
            generator=bench.generator(f"{beta}, training"),
        )
    )
    last = records[-50:]
    return {
        "cpu_seconds": time.process_time() - before,
        "excess": float(np.mean([r.f_q for r in last])) + QuenchedLinks(lattice, beta).log_z,
        "ess": float(np.mean([r.ess for r in last])),
        "weights": {key: values.tolist() for key, values in flow.state_dict().items()},
    }


def _chain(
    bench: Bench, settings: TopologySettings, flow: Flow, side: int, beta: float, name: str
) -> dict[str, Any]:
    lattice, generator = (side, side), bench.generator(f"{side} {beta} {name}")
    action, through = U1Gauge(lattice, beta), flow.on_lattice(lattice)
    effort, volumes = settings.efforts[name], (side / settings.trained_at) ** 2
    chains = effort.chains if name in ("hmc", "hops") else max(2, round(effort.chains / volumes))
    start = QuenchedLinks(lattice, beta).sample(chains, generator)
    hmc = flowed_hmc(through, action, 0.02, 50) if name == "flowed" else HMC.of_length(action, 1.0, 10)
    hmc, state = tune_step_size(
        hmc,
        hmc.init(start),
        generator,
        settings.acceptance,
        rounds=settings.rounds,
        trajectories=4,
        max_steps=400,
    )
    sampler: Any = hmc
    if name == "proposals":
        sampler = Cycle([hmc, IndependenceMetropolis(through, action)], names=("hmc", "other"))
    elif name == "hops":
        sampler = Cycle([hmc, SectorHop(action)], names=("hmc", "other"))
    begin: Any = state if sampler is hmc else sampler.init(hmc.field(state))
    before = time.process_time()
    series = samplers.run(sampler, begin, effort.steps, _observed, generator, block=100).series
    seconds = (time.process_time() - before) / series["charge"].numel()
    charge = series["charge"].double().numpy()
    found = {
        "forces": hmc.force_evaluations,
        "seconds_a_step": seconds,
        "steps": effort.steps,
        "acceptance": float(series.get("accepted_hmc", series["accepted"]).double().mean()),
        "other": float(series["accepted_other"].double().mean()) if "accepted_other" in series else None,
        "charge_squared": _pair(measure(charge**2)),
        "tunnelling": _pair(tunnelling_rate(charge)),
        "displacement": [_pair(charge_displacement(charge, lag)) for lag in range(1, 11)],
    }
    slow = measure(charge)
    return found | {"tau": slow.tau_int, "tau_error": slow.tau_int_error}


def _pair(measurement: Measurement) -> list[float]:
    return [measurement.value, measurement.error]


def _observed(x: Links) -> dict[str, Tensor]:
    return {"charge": topological_charge(x)}


def _line(side: int, beta: float, name: str, found: dict[str, Any]) -> list[str]:
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
        "many. ⟨(ΔQ)²⟩ tends to 2⟨Q²⟩ at large lags, at lag 1 for independent configurations."
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
    title="Topology of U(1) gauge theory: HMC through flows, flow proposals, sector hops",
    source="Foreman, HMC with normalizing flows, arXiv:2112.01586",
    run=run,
    settings=TopologySettings(),
    quick=TopologySettings(
        ladder=(1.0,),
        betas=(1.0,),
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
