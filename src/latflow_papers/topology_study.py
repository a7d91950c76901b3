"""The parts of the experiment on topology: trainings, and chains whose charge is recorded."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from latflow import samplers
from latflow.analysis import Measurement, charge_displacement, measure, tunnelling_rate
from latflow.densities.flows import Flow, QuenchedLinks, gauge_flow
from latflow.estimators import reparametrization
from latflow.figures import BLUE, GREEN, INK, ORANGE
from latflow.observables import topological_charge
from latflow.samplers import HMC, Cycle, IndependenceMetropolis, SectorHop, flowed_hmc, tune_step_size
from latflow.theories import U1Gauge
from latflow.training import Schedule, train
from latflow.types import Links
from latflow_papers.bench import Bench

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
        betas: inverse couplings.
        priors: of each of them that of the pure gauge theory from which the flow starts, drawn exactly; 0 for
            uniform links.
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

    betas: tuple[float, ...] = (2.0, 5.0, 7.0)
    priors: tuple[float, ...] = (0.0, 2.0, 3.0)
    trained_at: int = 8
    sides: tuple[int, ...] = (8, 16)
    layers: int = 8
    hidden: tuple[int, ...] = (8, 8)
    components: int = 4
    training: int = 800
    batch: int = 64
    learning_rate: float = 5e-3
    acceptance: float = 0.9
    rounds: int = 4
    efforts: dict[str, Effort] = field(
        default_factory=lambda: {
            "hmc": Effort(64, 3000),
            "flowed": Effort(24, 150),
            "proposals": Effort(32, 300),
            "hops": Effort(64, 3000),
        }
    )


def new_flow(bench: Bench, settings: TopologySettings, prior: float) -> Flow:
    """A gauge flow over pure gauge theory at the β of the prior."""
    return gauge_flow(
        (settings.trained_at,) * 2,
        layers=settings.layers,
        scalar_map="projection",
        bins=settings.components,
        hidden=settings.hidden,
        dilation=1,
        activation="silu",
        prior_beta=prior,
        generator=bench.generator(f"weights {prior}"),
    )


def training_at(bench: Bench, settings: TopologySettings, flow: Flow, beta: float) -> dict[str, Any]:
    """Train the flow, and say how well it did."""
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
        "weights": flow.state_dict(),
    }


def chain(
    bench: Bench, settings: TopologySettings, flow: Flow, side: int, beta: float, name: str
) -> dict[str, Any]:
    """The charges of the chains of one algorithm."""
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
        max_steps=200,
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
    # charges that are all one number tell no more than that τ may be as long as the history
    return found | {"tau": slow.tau_int or effort.steps / 2, "tau_error": slow.tau_int_error or 0.0}


def _pair(measurement: Measurement) -> list[float]:
    return [measurement.value, measurement.error]


def _observed(x: Links) -> dict[str, Tensor]:
    return {"charge": topological_charge(x)}
