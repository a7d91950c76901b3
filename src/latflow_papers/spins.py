"""Neural Markov chains of Ising spins beside single-spin and cluster updates."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from latflow.analysis import Measurement, free_energy, measure
from latflow.densities import draws
from latflow.densities.autoregressive import hierarchical_spins
from latflow.estimators import reinforce_leave_one_out
from latflow.exact import ising_log_z, ising_magnetization
from latflow.figures import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, styled
from latflow.observables import magnetization
from latflow.samplers import (
    IndependenceMetropolis,
    Sampler,
    SingleSpin,
    SwendsenWang,
    Wolff,
    run_blocks,
    thermalise,
)
from latflow.theories import Ising
from latflow.training import Schedule, Trainer
from latflow.types import Lattice
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.results import Cell, Table, number

_SHOWN = {
    "Neural MCMC": (BLUE, "o"),
    "Metropolis": (ORANGE, "s"),
    "heat bath": (GREY, "v"),
    "Swendsen–Wang": (GREEN, "D"),
    "Wolff": (INK, "^"),
}
"""The samplers, with colour and marker."""


@dataclass(frozen=True)
class DynamicsSettings:
    """Chains of each sampler at several couplings.

    Attributes:
        lattice: side lengths.
        couplings: K.
        hidden: of the hierarchical network.
        training: steps.
        batch: draws of a gradient estimate.
        learning_rate: of Adam, at its peak.
        chains: of each sampler.
        steps: recorded steps of each chain.
        thermalisation: steps before them.
    """

    lattice: Lattice
    couplings: tuple[float, ...]
    hidden: tuple[int, ...]
    training: int
    batch: int
    learning_rate: float
    chains: int
    steps: int
    thermalisation: int


def run(bench: Bench, settings: DynamicsSettings) -> Findings:
    """τ_int of |M| and of M, per step and per second, and ⟨|M|⟩ against its exact value."""
    rows, log_z_rows, found = [], [], {}
    for k in settings.couplings:
        numbers = bench.part(f"K={k}", lambda k=k: _sample(bench, settings, k))
        found[k] = numbers["samplers"]
        exact = ising_magnetization(settings.lattice, k).mean_of(np.abs)
        for name, one in numbers["samplers"].items():
            rows.append([number(k, "g"), name, *_row(one, exact)])
        log_z = Measurement(numbers["log_z"], numbers["log_z_error"])
        exact_log_z = ising_log_z(settings.lattice, k)
        training = number(numbers["training_seconds"], ".0f")
        above = number(numbers["f_q"] + exact_log_z, ".4f")
        compared = [log_z, number(exact_log_z, ".6f"), number(log_z.pull(exact_log_z), "+.1f")]
        log_z_rows.append([number(k, "g"), training, above, *compared])
    head = ["K", "sampler", "τ of |M|", "τ of M", "µs a step", "τ(|M|) in µs", "τ(M) in µs", "⟨|M|⟩", "pull"]
    log_z_head = ["K", "training [s]", "F_q + log Z", "log Z by NIS", "exact", "pull"]
    lattice = "×".join(map(str, settings.lattice))
    text = (
        f"Ising spins on {lattice}: {settings.chains} chains of {settings.steps} steps each, after "
        f"{settings.thermalisation}. A step is one proposal of the network, one sweep, or one cluster update "
        "(Wolff: one cluster, Swendsen–Wang: all of them); its microseconds are those of one chain among "
        "all, recording included. In the ordered phase single-spin updates hardly ever change the sign of M, "
        "which clusters and the Z₂-symmetric network do at every step. Pulls are from exact values."
    )
    tables = [Table("samplers", head, rows), Table("log_z", log_z_head, log_z_rows)]
    return Findings(text, tables, {"spins": _figure(found)})


def _row(one: dict[str, float], exact: float) -> list[Cell]:
    """What the table says of one sampler at one coupling."""
    taus = {key: Measurement(one[f"tau_{key}"], one[f"tau_{key}_error"]) for key in ("abs", "m")}
    step, value = 1e6 * one["seconds_per_step"], Measurement(one["abs_m"], one["abs_m_error"])
    times = [number(step * tau.value, ".1f") for tau in taus.values()]
    return [*taus.values(), number(step, ".1f"), *times, value, number(value.pull(exact), "+.1f")]


def _sample(bench: Bench, settings: DynamicsSettings, k: float) -> dict[str, Any]:
    action, generator = Ising(settings.lattice, beta=k), bench.generator(f"{k}")
    network = hierarchical_spins(settings.lattice, hidden=settings.hidden, generator=generator)
    trainer = Trainer(
        network,
        action,
        reinforce_leave_one_out,
        steps=settings.training,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        schedule=Schedule("cosine", warmup=max(1, settings.training // 30), floor=0.01),
        clip=1.0,
        generator=generator,
    )
    *_, last = trainer
    neural = IndependenceMetropolis(network, action, batch=4096)
    samplers: dict[str, Sampler[Any, Any]] = {
        "Neural MCMC": neural,
        "Metropolis": SingleSpin(action, "metropolis"),
        "heat bath": SingleSpin(action, "heat_bath"),
        "Swendsen–Wang": SwendsenWang(action),
        "Wolff": Wolff(action),
    }
    shape = (settings.chains, *settings.lattice)
    start = 2.0 * torch.randint(0, 2, shape, generator=generator) - 1
    found = {
        name: _chain(settings, sampler, start, bench.generator(f"{name} {k}"))
        for name, sampler in samplers.items()
    }
    log_weight = (
        draws(network, settings.chains * settings.steps, action, generator).log_weight.double().numpy()
    )
    f = free_energy(log_weight)
    return {
        "samplers": found,
        "training_seconds": last.seconds,
        "f_q": float(-log_weight.mean()),
        "log_z": -f.value,
        "log_z_error": f.error,
    }


def _chain(
    settings: DynamicsSettings, sampler: Sampler[Any, Any], start: Tensor, generator: Generator
) -> dict[str, float]:
    state = thermalise(sampler, sampler.init(start), settings.thermalisation, generator)
    begin = time.perf_counter()
    blocks = [
        block.series["m"]
        for _, block in run_blocks(
            sampler, state, settings.steps, lambda x: {"m": magnetization(x)}, generator, block=250
        )
    ]
    seconds = (time.perf_counter() - begin) / (settings.steps * settings.chains)
    m = torch.cat(blocks).double().numpy()
    absolute, signed = measure(np.abs(m)), measure(m)
    return {
        "abs_m": absolute.value,
        "abs_m_error": absolute.error,
        "tau_abs": absolute.tau_int or 0.5,
        "tau_abs_error": absolute.tau_int_error or 0.0,
        "tau_m": signed.tau_int or 0.5,
        "tau_m_error": signed.tau_int_error or 0.0,
        "seconds_per_step": seconds,
    }


@styled
def _figure(found: dict[float, dict[str, Any]]) -> Figure:
    figure = new_figure(7.2, 3.2)
    panels = figure.subplots(1, 2, sharex=True)
    for axes, key, title in zip(panels, ("tau_abs", "tau_m"), ("|M|", "M"), strict=True):
        for name, (colour, marker) in _SHOWN.items():
            values = [one[name] for one in found.values()]
            axes.plot(
                list(found),
                [1e6 * one["seconds_per_step"] * one[key] for one in values],
                color=colour,
                marker=marker,
                markerfacecolor="white",
                label=name,
            )
        axes.set_yscale("log")
        label(axes, f"Time of one independent ${title}$", r"$K$", r"$\tau_\mathrm{int}$ [µs]")
    panels[0].legend(loc="best")
    return figure


EXPERIMENT = Experiment(
    name="ising-dynamics",
    title="Neural Markov chains of Ising spins beside classical updates",
    source="Networks of Wu, Wang, Zhang, arXiv:1809.10606, and Białas, Korcyl, Stebel, Hierarchical "
    "autoregressive neural networks for statistical systems, arXiv:2203.10989",
    run=run,
    settings=DynamicsSettings((8, 8), (0.3, 0.44068679, 0.5), (8,), 600, 512, 5e-3, 64, 4000, 500),
    quick=DynamicsSettings((4, 4), (0.3, 0.5), (4,), 10, 32, 5e-3, 8, 60, 5),
)
