"""How fast a chain of φ⁴ forgets M and M², measured and compared with others."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator

from latflow.analysis import Measurement, measure
from latflow.observables import magnetization
from latflow.samplers import Sampler, run
from latflow.types import Field, Lattice


@dataclass(frozen=True)
class Row:
    """One algorithm on one lattice, and what was measured of it."""

    key: str
    algorithm: str
    lattice: Lattice
    beta: float
    found: dict[str, Any]

    @property
    def tau(self) -> Measurement:
        """τ_M in trajectories."""
        return Measurement(self.found["tau"], self.found["tau_error"])

    @property
    def tau_of_m2(self) -> Measurement:
        """τ of M² in trajectories."""
        return Measurement(self.found["tau_m2"], self.found["tau_m2_error"])

    def in_milliseconds(self, tau: Measurement) -> Measurement:
        """A τ in milliseconds of one chain."""
        scale = 1e3 * self.found["seconds_a_trajectory"]
        return Measurement(tau.value * scale, tau.error * scale)

    def reduction(self, hmc: "Row") -> Measurement:
        """By how much τ_M is smaller than that of HMC."""
        ratio = hmc.tau.value / self.tau.value
        return Measurement(
            ratio, ratio * math.hypot(self.tau.error / self.tau.value, hmc.tau.error / hmc.tau.value)
        )


def measured(sampler: Sampler[Any, Any], state: Any, steps: int, generator: Generator) -> dict[str, Any]:
    """τ_M, V⟨M²⟩ with its τ, the acceptance of chains over so many steps, and processor seconds of a step."""
    run(sampler, state, _UNTIMED, _observed, generator)
    before = time.process_time()
    series = run(sampler, state, steps, _observed, generator, block=200).series
    seconds = (time.process_time() - before) / series["m"].numel()
    m = measure(series["m"].double().numpy())
    m2 = measure(sampler.field(state)[0].numel() * series["m"].double().square().numpy())
    return {
        "tau": m.tau_int,
        "tau_error": m.tau_int_error,
        "m2": m2.value,
        "m2_error": m2.error,
        "tau_m2": m2.tau_int,
        "tau_m2_error": m2.tau_int_error,
        "acceptance": float(series["accepted"].double().mean()),
        "seconds_a_trajectory": seconds,
    }


_UNTIMED = 16
"""Steps before the clock starts, in which programs are compiled."""


def _observed(x: Field) -> dict[str, torch.Tensor]:
    return {"m": magnetization(x)}
