"""Pion and flavour singlet of the Schwinger model against the hopping parameter, beside the continuum."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, float32

from latflow.analysis import Measurement, derive, derive_vector, measure
from latflow.exact import free_fermion_condensate, u1_charge_squared
from latflow.figures import BLUE, GREY, ORANGE, label, new_figure, styled
from latflow.lattice import volume
from latflow.observables import effective_mass, pion_correlator, singlet_of, topological_charge
from latflow.samplers import HMC, Cycle, SectorHop
from latflow.samplers import run as run_chain
from latflow.theories import Schwinger
from latflow.types import Lattice
from latflow.wilson import determinant_and_condensate
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.results import Cell, Table, number

_HEAD = (
    "κ",
    "m_π",
    "m_η′",
    "m_η′² − m_π²",
    "N_f g²/π",
    "⟨Q²⟩/V",
    "condensate − free",
    "acceptance",
    "seconds",
)


@dataclass(frozen=True)
class Ensemble:
    """Chains at one coupling, for several hopping parameters.

    Attributes:
        lattice: side lengths, time first.
        beta: the inverse gauge coupling.
        kappas: the hopping parameters.
        time: t of the effective masses that stand for the particles.
        leapfrogs: steps of a trajectory of length 1.
        steps: trajectories that are recorded, each with a hop between sectors.
    """

    lattice: Lattice
    beta: float
    kappas: tuple[float, ...]
    time: int
    leapfrogs: int
    steps: int

    @property
    def boson_squared(self) -> float:
        """N_f g²/π of two flavours, g² = 1/β."""
        return 2 / (math.pi * self.beta)


@dataclass(frozen=True)
class SpectrumSettings:
    """Chains of two flavours.

    Attributes:
        ensembles: of them.
        chains: side by side.
        thermalisation: trajectories before the record.
        sources: time slices from which pions start.
    """

    ensembles: tuple[Ensemble, ...]
    chains: int
    thermalisation: int
    sources: int


def run(bench: Bench, settings: SpectrumSettings) -> Findings:
    """Run the chains, and make a table of each coupling."""
    tables, found, susceptibilities = [], [], []
    for ensemble in settings.ensembles:
        parts = {
            kappa: bench.part(
                f"{ensemble.beta:g} {kappa:g}",
                lambda ensemble=ensemble, kappa=kappa: _chains(bench, settings, ensemble, kappa),
            )
            for kappa in ensemble.kappas
        }
        masses = {kappa: _masses(part, ensemble.time) for kappa, part in parts.items()}
        found.append(masses)
        rows = [_line(ensemble, kappa, parts[kappa], masses[kappa]) for kappa in ensemble.kappas]
        sides = "×".join(map(str, ensemble.lattice))
        tables.append(
            Table(
                f"beta{ensemble.beta:g}",
                _HEAD,
                rows,
                caption=f"{sides}, β = {ensemble.beta:g}, effective masses at t = {ensemble.time}:",
            )
        )
        times = range(1, min(ensemble.time + 2, ensemble.lattice[0] // 2 - 1) + 1)
        tables.append(_plateaus(ensemble, parts, list(times)))
        pure = u1_charge_squared(ensemble.lattice, ensemble.beta) / volume(ensemble.lattice)
        susceptibilities.append(f"{8 * math.pi * pure:.3f} at β = {ensemble.beta:g}")
    text = (
        "Two flavours of Wilson fermions by HMC with hops between topological sectors, "
        f"{settings.chains} chains. In the continuum and without mass the pion is massless, and the singlet "
        "has from the anomaly m_η′² = N_f g²/π, g² = 1/β in lattice units. Heavy quarks have no part in it, "
        "and pion and singlet meet. The relation of Witten and Veneziano, "
        "m_η′² − m_π² = 4πN_f times the topological susceptibility of pure gauge theory, is N_f g²/π in the "
        f"continuum, and by the exact solution {' and '.join(susceptibilities)}. Errors are those of the "
        "Γ-method, with pion and singlet correlated; what finite time, volume and spacing do comes on top, "
        f"and is large: at the largest κ m_η′² − m_π² is {_shares(settings)} of N_f g²/π."
    )
    numbers: dict[str, Cell] = {
        f"share{i}": _relative(list(masses.values())[-1][2], ensemble.boson_squared)
        for i, (ensemble, masses) in enumerate(zip(settings.ensembles, found, strict=True))
    }
    return Findings(text, tables, {"schwinger-spectrum": _figure(settings, found)}, numbers)


def _shares(settings: SpectrumSettings) -> str:
    """Places for the numbers of all couplings in a sentence."""
    return " and ".join(f"$share{i} at β = {one.beta:g}" for i, one in enumerate(settings.ensembles))


def _relative(m: Measurement, unit: float) -> Measurement:
    return Measurement(m.value / unit, m.error / unit)


def _chains(bench: Bench, settings: SpectrumSettings, ensemble: Ensemble, kappa: float) -> dict[str, Any]:
    action = Schwinger(ensemble.lattice, ensemble.beta, kappa)
    fermions = action.second
    generator = bench.generator(f"{ensemble.beta:g} {kappa:g}")

    def record(links: Tensor) -> dict[str, Tensor]:
        pion = pion_correlator(links, kappa, sources=settings.sources)
        return {
            "pion": pion,
            "singlet": singlet_of(links, {kappa: pion}, fermions.shares, fermions.boundary),
            "charge": topological_charge(links),
            "condensate": determinant_and_condensate(links, kappa).condensate,
        }

    cycle = Cycle([HMC.of_length(action, 1.0, ensemble.leapfrogs), SectorHop(action)])
    start = action.kind.start(ensemble.lattice, settings.chains, generator, float32)
    chain = run_chain(cycle, start, ensemble.steps, record, generator, settings.thermalisation)
    kept = ("pion", "singlet", "charge", "condensate", "accepted_hmc")
    return {name: chain.series[name].double() for name in kept}


def _masses(part: dict[str, Any], time: int) -> list[Measurement]:
    """Of the pion, of the singlet, and the difference of their squares."""
    near = [part[name].numpy()[..., time - 1 : time + 2] for name in ("pion", "singlet")]

    def both(*correlators: np.ndarray) -> np.ndarray:
        pion, singlet = (effective_mass(correlator)[0] for correlator in correlators)
        return np.array([pion, singlet, singlet**2 - pion**2])

    return derive_vector(both, *near)


def _line(ensemble: Ensemble, kappa: float, part: dict[str, Any], masses: list[Measurement]) -> list[Cell]:
    free, sites = free_fermion_condensate(ensemble.lattice, kappa), volume(ensemble.lattice)
    tau = measure(part["charge"].numpy() ** 2).tau_int or 0.0
    return [
        number(kappa, "g"),
        *masses,
        number(ensemble.boson_squared, ".4f"),
        measure(part["charge"].numpy() ** 2 / sites, tau_exp=tau),
        measure(part["condensate"].numpy() - free, tau_exp=tau),
        number(part["accepted_hmc"].mean(), ".2f"),
        number(part["seconds"], ".0f"),
    ]


def _plateaus(ensemble: Ensemble, parts: dict[float, dict[str, Any]], times: list[int]) -> Table:
    rows: list[list[Cell]] = []
    for kappa, part in parts.items():
        for name, symbol in (("pion", "π"), ("singlet", "η′")):
            series = part[name].numpy()
            masses = [derive(lambda c: effective_mass(c)[0], series[..., t - 1 : t + 2]) for t in times]
            rows.append([number(kappa, "g"), symbol, *masses])
    head = ["κ", "meson", *(f"m_eff({t})" for t in times)]
    return Table(
        f"plateaus{ensemble.beta:g}", head, rows, caption=f"Effective masses, β = {ensemble.beta:g}:"
    )


@styled
def _figure(settings: SpectrumSettings, found: list[dict[float, list[Measurement]]]) -> Figure:
    figure = new_figure(5.2, 3.4)
    axes = figure.subplots()
    for ensemble, masses, colour in zip(settings.ensembles, found, (BLUE, ORANGE), strict=True):
        pion, singlet, _ = (np.array([one[i].value for one in masses.values()]) for i in range(3))
        errors = [np.array([2 * one[i].value * one[i].error for one in masses.values()]) for i in range(2)]
        sides = "×".join(map(str, ensemble.lattice))
        axes.errorbar(
            pion**2,
            singlet**2,
            errors[1],
            errors[0],
            color=colour,
            marker="o",
            markerfacecolor="white",
            linestyle="none",
            label=rf"{sides}, $\beta={ensemble.beta:g}$",
        )
        line = np.array([0.0, float(np.max(pion**2))])
        axes.plot(line, line + ensemble.boson_squared, color=colour, linewidth=0.8, linestyle=":")
    axes.axhline(0, color=GREY, linewidth=0.6)
    label(axes, r"Dotted: $m_{\eta'}^2 = m_\pi^2 + N_f g^2/\pi$", r"$m_\pi^2$", r"$m_{\eta'}^2$")
    axes.legend(loc="best")
    return figure


EXPERIMENT = Experiment(
    name="schwinger-spectrum",
    title="Pion and flavour singlet of the Schwinger model",
    source="Schwinger, Gauge invariance and mass II, Physical Review 128 (1962) 2425; Coleman, More about "
    "the massive Schwinger model, Annals of Physics 101 (1976) 239",
    run=run,
    settings=SpectrumSettings(
        (
            Ensemble((16, 8), 2.0, (0.25, 0.26, 0.27, 0.275), 5, 8, 350),
            Ensemble((20, 12), 4.0, (0.25, 0.258), 6, 12, 200),
        ),
        32,
        50,
        4,
    ),
    quick=SpectrumSettings(
        (Ensemble((8, 4), 2.0, (0.2, 0.25), 2, 6, 20), Ensemble((8, 4), 4.0, (0.2,), 2, 6, 20)), 16, 5, 1
    ),
)
