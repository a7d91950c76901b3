"""What an independent configuration of φ⁴ costs: tuned HMC, minimal flows, and flows as deep as they pay."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Generator, Tensor

from latflow.actions import HoppingPhi4
from latflow.analysis import Measurement
from latflow.flows import Flow, Pullback, spline_flow
from latflow.papers.bench import Bench, Experiment, Findings, Table, break_even
from latflow.papers.magnetization import Row, measured
from latflow.papers.trivializing_study import SOURCE, Study, TrivializingSettings
from latflow.report.style import BLUE, GREY, INK, ORANGE, label, new_figure, styled
from latflow.samplers import HMC, Cycle, FourierMass, IndependenceMetropolis, can_compile, flowed_hmc
from latflow.types import Field

FAMILIES = {
    "HMC": (INK, "o"),
    "Fourier HMC": (GREY, "v"),
    "minimal flow": (ORANGE, "s"),
    "deep flow": (BLUE, "^"),
}
"""What is compared: the first words of each algorithm, with colour and marker."""


STUDY = TrivializingSettings(
    points=((8, 0.576), (16, 0.634), (32, 0.662)),
    kernels=(3,),
    volumes=(),
    coarse=(),
    acceptance=0.85,
    chains=64,
    trajectories=160,
)


@dataclass(frozen=True)
class AccelerationSettings:
    """What is trained and sampled.

    Attributes:
        study: of the chains, and of the training of the minimal flow at each of its points.
        lengths: of the trajectories that are tried, of HMC.
        fourier_lengths: with Fourier acceleration, the mass of which is 1/ξ.
        latent_lengths: in the latent variables of the flows.
        layers: spline couplings of the deep flow.
        deep_steps: of its training at each point, which goes on from the weights of the one before.
        deep_batch: draws of a step.
        deep_learning_rate: of Adam.
        proposals: of independent draws of the deep flow, to each chain.
        cycles: of one such proposal and one trajectory of the best HMC.
        deep_trajectories: of each chain in the latent variables of the deep flow.
        share: of the chains, for those that pass through flows.
    """

    study: TrivializingSettings = STUDY
    lengths: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    fourier_lengths: tuple[float, ...] = (4.0, 8.0)
    latent_lengths: tuple[float, ...] = (1.0, 4.0)
    layers: int = 4
    deep_steps: tuple[int, ...] = (600, 1500, 500)
    deep_batch: int = 64
    deep_learning_rate: float = 3e-3
    proposals: int = 1500
    cycles: int = 400
    deep_trajectories: int = 80
    share: float = 0.25


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
    tables = [Table(_head(group[0]), [_line(group, row) for row in group]) for group in groups]
    return Findings(_text(groups), tables, {"acceleration": _figure(groups)})


class Comparison:
    """The parts of the experiment, each computed once."""

    def __init__(self, bench: Bench, settings: AccelerationSettings) -> None:
        self.bench, self.settings = bench, settings
        self.study = Study(bench, settings.study)
        self.deep_weights: dict[str, Tensor] = {}
        self.deep_seconds = 0.0

    def point(self, number: int) -> list[Row]:
        """All algorithms on one lattice, those of HMC first."""
        side, beta = self.settings.study.points[number]
        theory = self.study.theory((side, side), beta)
        rows = [
            self._hybrid("HMC", HMC.of_length(theory, length, math.ceil(12 * length), jitter=0.2))
            for length in self.settings.lengths
        ]
        best = min(rows, key=_milliseconds)
        mass = FourierMass(m2=(4 / side) ** 2)
        for length in self.settings.fourier_lengths:
            hmc = HMC.of_length(theory, length, math.ceil(4 * length), jitter=0.2, mass=mass)
            rows.append(self._hybrid("Fourier HMC", hmc))
        minimal = self.study.minimal(side, beta, 3)
        seconds = self.study.seconds[f"L{side} Gaussian k3"]
        for length in self.settings.latent_lengths:
            hmc = flowed_hmc(minimal, theory, 1 / 8, math.ceil(8 * length), jitter=0.2)
            rows.append(self._hybrid("minimal flow", hmc, seconds))
        return [*rows, *self._deep(self._deep_flow(number, theory), theory, best)]

    def _hybrid(self, family: str, hmc: HMC, training: float | None = None) -> Row:
        """HMC at its trajectory length, with the step size tuned; through a flow that was trained so long."""
        theory = hmc.action.action if isinstance(hmc.action, Pullback) else hmc.action
        assert isinstance(theory, HoppingPhi4)
        settings, length = self.settings.study, hmc.trajectory_length

        def chain(generator: Generator) -> dict[str, Any]:
            sampler, state = self.study.tuned(hmc, self._start(theory, training is not None), generator)
            steps = max(8, round(settings.trajectories * (theory.lattice[0] / 4) ** 2 / length))
            how = {"step_size": sampler.step_size, "n_steps": sampler.n_steps}
            return measured(sampler, state, steps, generator) | how | {"forces": sampler.force_evaluations}

        return self._row(f"{family}, length {length:g}", theory, chain, training)

    def _deep(self, flow: Flow, theory: HoppingPhi4, best: Row) -> list[Row]:
        """Independent draws of the deep flow, alone and in turn with the best HMC, and HMC through it."""
        settings, compiled = self.settings, self.study.settings.compiled and can_compile()
        draws = IndependenceMetropolis(flow, theory, settings.deep_batch)
        hmc = HMC(theory, best.found["step_size"], best.found["n_steps"], jitter=0.2, compiled=compiled)
        latent = flowed_hmc(flow, theory, 1 / 4, 8, jitter=0.2)

        def proposals(generator: Generator) -> dict[str, Any]:
            state = draws.init(self._start(theory, through_flow=True))
            return measured(draws, state, settings.proposals, generator) | {"forces": 0}

        def cycle(generator: Generator) -> dict[str, Any]:
            both = Cycle([draws, hmc])
            state = both.init(self._start(theory, through_flow=True))
            return measured(both, state, settings.cycles, generator) | {"forces": hmc.force_evaluations}

        def through(generator: Generator) -> dict[str, Any]:
            sampler, state = self._uncompiled.tuned(latent, self._start(theory, through_flow=True), generator)
            found = measured(sampler, state, settings.deep_trajectories, generator)
            return found | {"forces": sampler.force_evaluations}

        names = {
            "deep flow, draws": proposals,
            "deep flow, draws and HMC": cycle,
            "deep flow, HMC of length 2": through,
        }
        return [self._row(name, theory, chain, self.deep_seconds) for name, chain in names.items()]

    def _deep_flow(self, number: int, theory: HoppingPhi4) -> Flow:
        """The deep flow, trained on from the weights of the smaller lattice."""
        settings, name = self.settings, f"L{theory.lattice[0]} deep"
        flow = spline_flow(
            theory.lattice,
            layers=settings.layers,
            scale=0.8,
            generator=self.bench.generator(f"{name}, weights"),
        )
        if self.deep_weights:
            flow.load_state_dict(self.deep_weights)
        study = Study(
            self.bench,
            replace(
                settings.study,
                steps=settings.deep_steps[number],
                batch=settings.deep_batch,
                learning_rate=settings.deep_learning_rate,
                estimator="path_gradient",
            ),
        )
        study.trained(name, flow, flow, theory)
        self.deep_weights = flow.state_dict()
        self.deep_seconds += study.seconds[name]
        return flow

    @property
    def _uncompiled(self) -> Study:
        """A study whose chains are not compiled: a deep flow takes the compiler minutes."""
        return Study(self.bench, replace(self.settings.study, compiled=False))

    def _start(self, theory: HoppingPhi4, through_flow: bool) -> Field:
        """Chains in equilibrium; a share of them for what passes through a flow."""
        start = self.study.equilibrium(theory, theory.lattice[0] / 4)
        return start[: max(2, round(self.settings.share * len(start)))] if through_flow else start

    def _row(
        self,
        algorithm: str,
        theory: HoppingPhi4,
        chain: Callable[[Generator], dict[str, Any]],
        training: float | None,
    ) -> Row:
        key = f"L{theory.lattice[0]} {algorithm}"
        found = self.bench.part(key, lambda: chain(self.bench.generator(f"{key}, chain")))
        return Row(key, algorithm, theory.lattice, theory.beta, found | {"training": training})


def _milliseconds(row: Row) -> float:
    """2τ_M, what an independent configuration takes."""
    return 2 * row.tau_in_milliseconds.value


def _head(first: Row) -> tuple[str, ...]:
    return (f"{'×'.join(map(str, first.lattice))}, β = {first.beta}", *HEAD[1:])


def _line(group: Sequence[Row], row: Row) -> list[str]:
    best = min((one for one in group if one.found["training"] is None), key=_milliseconds)
    found, cost = row.found, row.tau_in_milliseconds
    training = found["training"]
    return [
        row.algorithm,
        str(Measurement(found["m2"], found["m2_error"])),
        f"{found['acceptance']:.2f}",
        str(found["forces"]),
        str(row.tau),
        f"{2 * row.tau.value * found['forces']:.0f}" if found["forces"] else "",
        str(Measurement(2 * cost.value, 2 * cost.error)),
        str(row.reduction(group[0])),
        f"{_milliseconds(best) / _milliseconds(row):.2g}",
        "" if training is None else f"{training:.0f}",
        "" if training is None else break_even(training, _milliseconds(best), _milliseconds(row)),
    ]


def _cheapest(group: Sequence[Row], family: str) -> Row:
    return min((row for row in group if row.algorithm.startswith(f"{family}, ")), key=_milliseconds)


def _text(groups: Sequence[Sequence[Row]]) -> str:
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
    if len(groups) < 2:
        return text
    sides = [group[0].lattice[0] for group in (groups[0], groups[-1])]
    exponents = []
    for family in FAMILIES:
        first, last = (_milliseconds(_cheapest(group, family)) for group in (groups[0], groups[-1]))
        exponents.append(f"{family} {math.log(last / first) / math.log(sides[1] / sides[0]):.1f}")
    return text + (
        f"Exponent x of 2τ_M [ms] ∝ L^x at fixed ξ/L from L = {sides[0]} to {sides[1]}, the fastest of each "
        f"kind: {', '.join(exponents)}."
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
