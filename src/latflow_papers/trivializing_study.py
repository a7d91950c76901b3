"""The parts of the experiment on trivializing flows: trainings, and chains whose τ_M is measured."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latflow.densities.flows import Bijection, EverySecondSite, Flow, TheoryPrior, minimal_flow, refined
from latflow.estimators import ESTIMATORS
from latflow.samplers import (
    HMC,
    FourierMass,
    HMCState,
    RunningChains,
    flowed_hmc,
    thermalise,
    tune_step_size,
)
from latflow.theories import HoppingPhi4
from latflow.training import Schedule, train
from latflow.types import Field, Lattice
from latflow_papers.bench import Bench
from latflow_papers.magnetization import Row, measured

SOURCE = (
    "Albandea, Del Debbio, Hernández, Kenway, Marsh Rossney, Ramos, slides on machine-learned trivializing "
    "flows; Learning trivializing flows, arXiv:2302.08408"
)


@dataclass(frozen=True)
class TrivializingSettings:
    """What is trained and sampled.

    Attributes:
        points: (L, β) of square lattices, each with L = 4ξ; kernels, volumes and coarse theories belong to
            the first.
        kernels: sides of the kernels of the minimal flow that are compared; other rows take the first.
        volumes: the same theory and network on a lattice so many times longer in each direction.
        coarse: (L, β) of the coarser theories, the coarsest first, each twice as long as the one before.
        from_coarse: which flows are made of the coarser theories: their last one on the same lattice ("bigger
            volume"), "one" or "four" of its configurations, or those of the last two ("twice").
        lam: λ.
        acceptance: to which every step size is tuned, at trajectories of length 1.
        rounds: in which the step size is tuned.
        chains: that run at once.
        share: of the chains, for those that pass through flows, whose steps take many times as long.
        trajectories: of each chain, in units of ξ², with which τ_M grows.
        steps: of the training.
        batch: draws of a step.
        learning_rate: of Adam, falling like half a cosine.
        estimator: of the gradient, a name in `estimators.ESTIMATORS`.
        compiled: whether the trajectories are compiled.
    """

    points: tuple[tuple[int, float], ...] = ((16, 0.634), (20, 0.645))
    kernels: tuple[int, ...] = (3, 5, 7)
    volumes: tuple[tuple[int, int], ...] = ((1, 2), (2, 2))
    coarse: tuple[tuple[int, float], ...] = ((4, 0.46), (8, 0.576))
    from_coarse: tuple[str, ...] = ("bigger volume", "one", "four", "twice")
    lam: float = 0.5
    acceptance: float = 0.9
    rounds: int = 8
    chains: int = 256
    share: float = 1.0
    trajectories: int = 96
    steps: int = 2000
    batch: int = 128
    learning_rate: float = 0.05
    estimator: str = "reparametrization"
    compiled: bool = True


class Study:
    """The parts of the experiment, each computed once."""

    def __init__(self, bench: Bench, settings: TrivializingSettings) -> None:
        self.bench, self.settings = bench, settings
        self.histories: dict[str, dict[str, Tensor]] = {}
        self.seconds: dict[str, float] = {}
        self._thermal: dict[HoppingPhi4, Field] = {}

    def theory(self, lattice: Lattice, beta: float) -> HoppingPhi4:
        return HoppingPhi4(lattice, beta=beta, lam=self.settings.lam)

    def point(self, side: int, beta: float) -> list[Row]:
        """HMC and the minimal flow on a square lattice."""
        lattice, kernel = (side, side), self.settings.kernels[0]
        return [
            self.row("HMC", "HMC", lattice, beta, None, side / 4),
            self.row(
                f"Gaussian k{kernel}",
                f"flow from Gaussian, k = {kernel}",
                lattice,
                beta,
                self.minimal(side, beta, kernel),
                side / 4,
            ),
        ]

    def minimal(self, side: int, beta: float, kernel: int) -> Flow:
        """The minimal flow, trained from normal numbers."""
        lattice, name = (side, side), f"L{side} Gaussian k{kernel}"
        flow = minimal_flow(lattice, kernel=kernel, generator=self.bench.generator(f"{name}, weights"))
        self.trained(name, flow, flow.bijection, self.theory(lattice, beta))
        return flow

    def larger_lattices(self) -> list[list[Row]]:
        """HMC and the flow of the first point on lattices of more volume."""
        side, beta = self.settings.points[0]
        kernel = self.settings.kernels[0]
        flow = self.minimal(side, beta, kernel) if self.settings.volumes else None
        groups = []
        for times in self.settings.volumes:
            lattice = (side * times[0], side * times[1])
            where: tuple[Lattice, float] = (lattice, beta)
            effort = (side / 4, math.prod(times) ** -0.5)
            assert flow is not None
            there, what = flow.on_lattice(lattice), f"the flow of {side}×{side}, k = {kernel}"
            groups.append(
                [
                    self.row("HMC", "HMC", *where, None, *effort),
                    self.row(f"from {side}", what, *where, there, *effort),
                ]
            )
        return groups

    def kernel_sizes(self, point: list[Row]) -> list[list[Row]]:
        """The first point with larger kernels."""
        side, beta = self.settings.points[0]
        larger = [
            self.row(
                f"Gaussian k{kernel}",
                f"flow from Gaussian, k = {kernel}",
                (side, side),
                beta,
                self.minimal(side, beta, kernel),
                side / 4,
            )
            for kernel in self.settings.kernels[1:]
        ]
        return [[*point, *larger]] if larger else []

    def from_coarser_theories(self, point: list[Row]) -> list[list[Row]]:
        """The first point, from one and from four coarse configurations, and iterated."""
        if not self.settings.coarse:
            return []
        (side, beta), (half, coarse_beta) = self.settings.points[0], self.settings.coarse[-1]
        same, coarse, four = (
            self.chains(long, coarse_beta, fields) for long, fields in ((side, 1), (half, 1), (half, 4))
        )
        flows = {
            "bigger volume": (f"β = {coarse_beta} on the same lattice", lambda last: Flow(same, last)),
            "one": (f"one {half}×{half}", lambda last: Flow(EverySecondSite(coarse), last)),
            "four": (f"four {half}×{half}", lambda last: refined(four, last)),
        }
        if "twice" in self.settings.from_coarse and len(self.settings.coarse) > 1:
            quarter, coarsest_beta = self.settings.coarse[-2]
            coarsest = self.chains(quarter, coarsest_beta, 16)
            below = self.over("twice", half, coarse_beta, lambda last: refined(coarsest, last))
            below.requires_grad_(False)
            path = " to ".join(f"{long}×{long}" for long in (quarter, half, side))
            flows["twice"] = (path, lambda last: refined(below, last))
        rows = [
            self.row(
                key, f"flow from {what}", (side, side), beta, self.over(key, side, beta, build), side / 4
            )
            for key, (what, build) in flows.items()
            if key in self.settings.from_coarse
        ]
        return [[*point, *rows]]

    def over(self, key: str, side: int, beta: float, build: Callable[[Bijection], Flow]) -> Flow:
        """A flow that ends in the couplings of a minimal one, which are trained alone."""
        name, kernel = f"L{side} {key}", self.settings.kernels[0]
        weights = self.bench.generator(f"{name}, weights")
        last = minimal_flow((side, side), kernel=kernel, generator=weights).bijection
        flow = build(last)
        self.trained(name, flow, last, self.theory((side, side), beta))
        return flow

    def chains(self, side: int, beta: float, fields: int) -> TheoryPrior:
        """A coarse theory as prior, so many fields a draw, from HMC with Fourier acceleration."""
        lattice = (side, side)
        # at ξ = 2 trajectories of length 4 have τ_M = 3
        hmc = HMC.of_length(
            self.theory(lattice, beta), 4.0, 12, jitter=0.2, mass=FourierMass(m2=(4 / side) ** 2)
        )
        generator = self.bench.generator(f"L{side} {beta} {fields}, prior")
        start = 0.5 * torch.randn(fields * self.settings.batch, *lattice, generator=generator)
        return TheoryPrior(hmc.action, RunningChains(hmc, start, spacing=2, thermalisation=100))

    def trained(self, name: str, flow: Flow, last: nn.Module, theory: HoppingPhi4) -> None:
        """Train the last bijection of a flow, or give it the weights of the part that did."""
        part = self.bench.part(f"{name} training", lambda: self._training(name, flow, last, theory))
        last.load_state_dict(part["weights"])
        self.histories[name] = part["history"]
        self.seconds[name] = part["cpu_seconds"]

    def _training(self, name: str, flow: Flow, last: nn.Module, theory: HoppingPhi4) -> dict[str, Any]:
        settings = self.settings
        before = time.process_time()
        records = train(
            flow,
            theory,
            ESTIMATORS[settings.estimator],
            steps=settings.steps,
            batch=settings.batch,
            learning_rate=settings.learning_rate,
            schedule=Schedule("cosine", warmup=min(100, settings.steps)),
            clip=100.0,
            generator=self.bench.generator(f"{name}, training"),
        )
        seen = [(record.step, record.f_q, record.f_q_std) for record in records]
        columns = torch.tensor(seen[:: max(1, len(seen) // 400)], dtype=torch.float64).unbind(1)
        return {
            "history": dict(zip(("step", "f_q", "std"), columns, strict=True)),
            "weights": last.state_dict(),
            "cpu_seconds": time.process_time() - before,
        }

    def row(
        self,
        key: str,
        algorithm: str,
        lattice: Lattice,
        beta: float,
        flow: Flow | None,
        xi: float,
        share: float = 1.0,
    ) -> Row:
        """τ_M of HMC, or of HMC through a flow, on `share` of the chains."""
        sides = "L" + "x".join(map(str, sorted(set(lattice))))
        theory = self.theory(lattice, beta)
        found = self.bench.part(
            f"{sides} {key}", lambda: self._chain(f"{sides} {key}", theory, flow, xi, share)
        )
        return Row(f"{sides} {key}", algorithm, lattice, beta, found)

    def _chain(
        self, name: str, theory: HoppingPhi4, flow: Flow | None, xi: float, share: float
    ) -> dict[str, Any]:
        settings, generator = self.settings, self.bench.generator(f"{name}, chain")
        first = HMC.of_length(theory, 1.0, 8)
        sampler = flowed_hmc(flow, theory, first.step_size, first.n_steps) if flow else first
        share *= settings.share if flow else 1.0
        start = self.equilibrium(theory, xi)[: max(2, round(share * settings.chains))]
        sampler, state = self.tuned(sampler, start, generator)
        length = max(8, round(settings.trajectories * xi**2))
        return measured(sampler, state, length, generator) | {"forces": sampler.force_evaluations}

    def tuned(self, sampler: HMC, start: Field, generator: Generator) -> tuple[HMC, HMCState]:
        """The sampler with a step size of the wanted acceptance, compiled, and its chains from `start`."""
        settings = self.settings
        sampler, state = tune_step_size(
            sampler,
            sampler.init(start),
            generator,
            settings.acceptance,
            rounds=settings.rounds,
            trajectories=5,
        )
        sampler = replace(sampler, compiled=settings.compiled)
        return sampler, thermalise(sampler, state, 2, generator)

    def equilibrium(self, theory: HoppingPhi4, xi: float) -> Field:
        """Chains of HMC in equilibrium after some twelve τ_M, from which every sampler may start."""
        if theory not in self._thermal:
            generator = self.bench.generator(f"{theory}, equilibrium")
            hmc = HMC.of_length(
                theory, 1.0, 8 + round(max(theory.lattice) / 16), compiled=self.settings.compiled
            )
            hot = torch.randn(self.settings.chains, *theory.lattice, generator=generator)
            steps = round(min(self.settings.trajectories, 60) * xi**2)
            self._thermal[theory] = thermalise(hmc, hmc.init(hot), steps, generator, block=200).x
        return self._thermal[theory]
