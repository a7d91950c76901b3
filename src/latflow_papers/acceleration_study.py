"""The parts of the experiment on costs: models of growing lattices, and chains of every algorithm."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from latflow.densities.flows import Flow, Pullback, spline_flow
from latflow.estimators import SoftLabels
from latflow.multilevel import Multilevel, multilevel
from latflow.samplers import (
    HMC,
    Cycle,
    EmbeddedClusters,
    FourierMass,
    IndependenceMetropolis,
    Sampler,
    flowed_hmc,
    thermalise,
)
from latflow.theories import HoppingPhi4
from latflow.types import Field
from latflow_papers.bench import Bench
from latflow_papers.magnetization import Row, measured
from latflow_papers.multilevel_study import training
from latflow_papers.trivializing_study import Study, TrivializingSettings

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
        further: (L, β) of larger lattices, on which HMC, clusters and the multilevel density go on.
        further_lengths: of the trajectories of HMC there.
        multilevel_steps: of the training at each point, further ones included, from the weights of the one
            before.
        multilevel_batch: chains that such a step moves.
        multilevel_columns: sites at which it judges each class.
        multilevel_proposals: to each chain, and updates of clusters.
        thermalisation: updates of clusters before the chains of further points.
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
    further: tuple[tuple[int, float], ...] = ((64, 0.6745), (128, 0.681))
    further_lengths: tuple[float, ...] = (4.0, 8.0)
    multilevel_steps: tuple[int, ...] = (300, 700, 1500, 3000, 2500)
    multilevel_batch: int = 128
    multilevel_columns: int = 8192
    multilevel_proposals: int = 1500
    thermalisation: int = 300


def milliseconds(row: Row) -> float:
    """2τ_M, what an independent M takes."""
    return 2 * row.in_milliseconds(row.tau).value


class Comparison:
    """The parts of the experiment, each computed once."""

    def __init__(self, bench: Bench, settings: AccelerationSettings) -> None:
        self.bench, self.settings = bench, settings
        self.study = Study(bench, settings.study)
        self.deep_weights: dict[str, Tensor] = {}
        self.deep_seconds = 0.0
        self._far: dict[HoppingPhi4, Field] = {}
        self._largest = settings.study.points[-1][0]
        self.model: Multilevel | None = None
        self.model_seconds = 0.0

    def points(self) -> list[list[Row]]:
        """All algorithms on each lattice, those of HMC first."""
        near = [self._point(number) for number in range(len(self.settings.study.points))]
        return near + [self._further(number) for number in range(len(self.settings.further))]

    def _point(self, number: int) -> list[Row]:
        side, beta = self.settings.study.points[number]
        theory = self.study.theory((side, side), beta)
        rows = [self._plain(theory, length) for length in self.settings.lengths]
        best = min(rows, key=milliseconds)
        mass = FourierMass(m2=(4 / side) ** 2)
        for length in self.settings.fourier_lengths:
            hmc = HMC.of_length(theory, length, math.ceil(4 * length), jitter=0.2, mass=mass)
            rows.append(self._hybrid("Fourier HMC", hmc))
        minimal = self.study.minimal(side, beta, 3)
        seconds = self.study.seconds[f"L{side} Gaussian k3"]
        for length in self.settings.latent_lengths:
            hmc = flowed_hmc(minimal, theory, 1 / 8, math.ceil(8 * length), jitter=0.2)
            rows.append(self._hybrid("minimal flow", hmc, seconds))
        rows += self._deep(self._deep_flow(number, theory), theory, best)
        return rows + self._clusters_and_multilevel(number, theory)

    def _further(self, number: int) -> list[Row]:
        """On a lattice that flows do not reach."""
        side, beta = self.settings.further[number]
        theory = self.study.theory((side, side), beta)
        rows = [self._plain(theory, length) for length in self.settings.further_lengths]
        return rows + self._clusters_and_multilevel(len(self.settings.study.points) + number, theory)

    def _plain(self, theory: HoppingPhi4, length: float) -> Row:
        return self._hybrid("HMC", HMC.of_length(theory, length, math.ceil(12 * length), jitter=0.2))

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

    def _clusters_and_multilevel(self, number: int, theory: HoppingPhi4) -> list[Row]:
        """Clusters of the signs with a heat bath, and proposals of the multilevel density."""
        model, updates = self._multilevel(number, theory), self.settings.multilevel_proposals

        def chain(sampler: Sampler[Any, Any]) -> Callable[[Generator], dict[str, Any]]:
            def moved(generator: Generator) -> dict[str, Any]:
                state = sampler.init(self._start(theory, through_flow=False))
                return measured(sampler, state, updates, generator) | {"forces": 0}

            return moved

        clusters, draws = EmbeddedClusters(theory), IndependenceMetropolis(model, theory)
        return [
            self._row("clusters, with a heat bath", theory, chain(clusters), None),
            self._row("multilevel, draws", theory, chain(draws), self.model_seconds),
        ]

    def _multilevel(self, number: int, theory: HoppingPhi4) -> Multilevel:
        """The multilevel density, trained on from the weights of the smaller lattice."""
        settings, name = self.settings, f"L{theory.lattice[0]} multilevel training"
        first = multilevel(
            theory.lattice,
            action=theory,
            compiled=settings.study.compiled,
            generator=self.bench.generator("multilevel"),
        )
        assert isinstance(first, Multilevel)
        if self.model is not None:
            first.load_state_dict(self.model.on_lattice(theory.lattice).state_dict())
        part = self.bench.part(
            name,
            lambda: training(
                self.bench,
                name,
                first,
                theory,
                SoftLabels(columns=settings.multilevel_columns),
                steps=settings.multilevel_steps[number],
                batch=settings.multilevel_batch,
                learning_rate=2e-2,
            ),
        )
        first.load_state_dict(part["weights"])
        first.sample(1, self.bench.generator("multilevel"))  # compiled before the clock starts
        self.model = first
        self.model_seconds += part["cpu_seconds"]
        return first

    def _deep(self, flow: Flow, theory: HoppingPhi4, best: Row) -> list[Row]:
        """Independent draws of the deep flow, alone and in turn with the best HMC, and HMC through it."""
        settings = self.settings
        draws = IndependenceMetropolis(flow, theory, settings.deep_batch)
        hmc = HMC(
            theory,
            best.found["step_size"],
            best.found["n_steps"],
            jitter=0.2,
            compiled=settings.study.compiled,
        )
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
        if theory.lattice[0] > self._largest:
            return self._thermal(theory)
        start = self.study.equilibrium(theory, theory.lattice[0] / 4)
        return start[: max(2, round(self.settings.share * len(start)))] if through_flow else start

    def _thermal(self, theory: HoppingPhi4) -> Field:
        """Chains in equilibrium by clusters: fewer of them, the larger the lattice, for steps cost more."""
        if theory not in self._far:
            generator = self.bench.generator(f"{theory}, equilibrium")
            chains = max(2, self.settings.study.chains * self._largest**2 // math.prod(theory.lattice))
            hot = torch.randn(chains, *theory.lattice, generator=generator)
            clusters = EmbeddedClusters(theory)
            steps = self.settings.thermalisation
            self._far[theory] = thermalise(clusters, clusters.init(hot), steps, generator).x
        return self._far[theory]

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
