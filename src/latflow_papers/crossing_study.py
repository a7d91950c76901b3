"""The parts of the experiment on the critical point: models for a range of couplings, and clusters."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latflow.analysis import Average, derive, effective_sample_size, measure, pooled
from latflow.densities import draws
from latflow.estimators import soft_labels_in_ranges
from latflow.multilevel import Multilevel, multilevel
from latflow.observables import binder_cumulant, correlation_length, lowest_mode, magnetization
from latflow.samplers import EmbeddedClusters, run
from latflow.theories import HoppingPhi4
from latflow.types import Field
from latflow_papers.bench import Bench
from latflow_papers.multilevel_study import training


@dataclass(frozen=True)
class CrossingSettings:
    """What is trained and sampled.

    Attributes:
        sides: L of square lattices, each twice the one before.
        lam: λ.
        ends: the range of β.
        beta: of the theory for which the records of the trainings are.
        sets: how many β, evenly spread over the range, draws are made at.
        between: how many more β between two of them the curves are evaluated at.
        draws: independent ones in each set.
        steps: of the training at each side, which goes on from the one before.
        batch: chains that a step moves.
        learning_rate: of Adam, falling like half a cosine at each side.
        knots: of the training.
        checked: the numbers of those sets that cluster chains check.
        chains: of clusters, at once.
        updates: of each chain.
        thermalisation: updates that come first.
    """

    sides: tuple[int, ...] = (8, 16, 32)
    lam: float = 0.5
    ends: tuple[float, float] = (0.62, 0.72)
    beta: float = 0.685
    sets: int = 7
    between: int = 3
    draws: int = 20_000
    steps: tuple[int, ...] = (500, 800, 500)
    batch: int = 128
    learning_rate: float = 5e-3
    knots: int = 8
    checked: tuple[int, ...] = (2, 4, 5)
    chains: int = 64
    updates: int = 4000
    thermalisation: int = 100


class Study:
    """The parts of the experiment, each computed once."""

    def __init__(self, bench: Bench, settings: CrossingSettings) -> None:
        self.bench, self.settings = bench, settings
        intervals = settings.sets - 1
        steps = intervals * (settings.between + 1)
        low, high = settings.ends
        self.couplings = [low + (high - low) * number / steps for number in range(steps + 1)]
        """β of the curves."""
        self.own = [number * (settings.between + 1) for number in range(settings.sets)]
        """Which of them are those of the sets."""

    def theory(self, side: int, beta: float | None = None) -> HoppingPhi4:
        beta = self.settings.beta if beta is None else beta
        return HoppingPhi4((side, side), beta=beta, lam=self.settings.lam)

    def training(self, side: int) -> dict[str, Any]:
        """The weights of the model on one lattice, and the processor seconds of its training."""

        def trained() -> dict[str, Any]:
            settings, number = self.settings, self.settings.sides.index(side)
            model = (
                self._model(settings.sides[number - 1]).on_lattice((side, side))
                if number
                else self._new(side)
            )
            return training(
                self.bench,
                f"training {side}",
                model,
                self.theory(side),
                soft_labels_in_ranges(knots=settings.knots),
                steps=settings.steps[number],
                batch=settings.batch,
                learning_rate=settings.learning_rate,
            )

        return self.bench.part(f"training {side}", trained)

    def draws(self, side: int) -> dict[str, Any]:
        """What the curves need of all draws: log-weights at every coupling, and observables.

        The tree holds "log_weight" (couplings, sets, n), "values" (observables, sets, n) of |M|, M², M⁴ and
        the lowest mode, "ess" of each set at its own coupling, and "cpu_seconds" of all draws.
        """

        def drawn() -> dict[str, Any]:
            model, before = self._model(side), time.process_time()
            sets = [self._set(model, side, number) for number in range(self.settings.sets)]
            return {
                "log_weight": torch.stack([one["log_weight"] for one in sets], 1),
                "values": torch.stack([one["values"] for one in sets], 1),
                "ess": [
                    effective_sample_size(one["log_weight"][own].numpy())
                    for own, one in zip(self.own, sets, strict=True)
                ],
                "cpu_seconds": time.process_time() - before,
            }

        return self.bench.part(f"draws {side}", drawn)

    def _set(self, model: Multilevel, side: int, number: int) -> dict[str, Tensor]:
        beta = self.couplings[self.own[number]]
        generator = self.bench.generator(f"draws {side}, {number}")
        theory = self.theory(side, beta)
        x, log_weight = draws(model.at(beta=beta), self.settings.draws, theory, generator)
        here = theory(x)
        return {
            "log_weight": torch.stack([log_weight + here - self.theory(side, b)(x) for b in self.couplings]),
            "values": torch.stack(list(_observed(x).values())),
        }

    def curves(self, side: int) -> dict[str, list[Average]]:
        """V⟨M²⟩, ξ and the Binder cumulant at all couplings, and ⟨|M|⟩."""
        found = self.draws(side)
        log_weight, values = found["log_weight"].numpy(), found["values"].numpy()

        return {
            name: pooled(log_weight, values, self.own, function)
            for name, function in _functions(side).items()
        }

    def chain(self, side: int, number: int) -> dict[str, Any]:
        """The same by clusters at the coupling of one set.

        The tree holds "found", value and error by the names of the curves, "tau" of M² and "cpu_seconds".
        """
        settings = self.settings
        beta = self.couplings[self.own[number]]

        def sampled() -> dict[str, Any]:
            theory = self.theory(side, beta)
            generator = self.bench.generator(f"clusters {side}, {number}")
            sampler, before = EmbeddedClusters(theory), time.process_time()
            start = theory.kind.start(theory.lattice, settings.chains, generator, torch.float32)
            effort = settings.updates, _observed, generator, settings.thermalisation
            series = run(sampler, start, *effort).series
            values = [series[name].double().numpy() for name in ("m_abs", "m2", "m4", "mode")]
            seconds = time.process_time() - before
            results = {name: derive(function, *values) for name, function in _functions(side).items()}
            return {
                "found": {name: [one.value, one.error] for name, one in results.items()},
                "tau": measure(values[1]).tau_int,
                "cpu_seconds": seconds,
            }

        return self.bench.part(f"clusters {side}, {number}", sampled)

    def _new(self, side: int) -> Multilevel:
        density = multilevel(
            (side, side),
            action=self.theory(side),
            ranges={"beta": self.settings.ends},
            generator=self.bench.generator("weights"),
        )
        assert isinstance(density, Multilevel)
        return density

    def _model(self, side: int) -> Multilevel:
        """The trained one."""
        model = self._new(side)
        model.load_state_dict(self.training(side)["weights"])
        return model


def _observed(x: Field) -> dict[str, Tensor]:
    m = magnetization(x).double()
    return {"m_abs": m.abs(), "m2": m**2, "m4": m**4, "mode": lowest_mode(x).double()}


def _functions(side: int) -> Mapping[str, Any]:
    """Of the averages of |M|, M², M⁴ and the lowest mode."""
    volume = side**2
    return {
        "m_abs": lambda m_abs, m2, m4, mode: m_abs,  # noqa: ARG005
        "m2": lambda m_abs, m2, m4, mode: volume * m2,  # noqa: ARG005
        "xi": lambda m_abs, m2, m4, mode: correlation_length(volume * m2, mode, side),  # noqa: ARG005
        "binder": lambda m_abs, m2, m4, mode: binder_cumulant(m2, m4),  # noqa: ARG005
    }
