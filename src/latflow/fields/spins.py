"""Spins ±1: one at each site, as floating-point numbers."""

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.fields.base import FieldKind, Picture
from latflow.fields.scalar import magnetic
from latflow.formulas import specific_heat
from latflow.observables.base import Observable, Sectors
from latflow.observables.scalar import two_point
from latflow.observables.spins import bond_energy
from latflow.types import Lattice, Spins

PHASES = Sectors(
    title="phases",
    number=lambda m: np.select([m > 0, m < 0], [0, 1], -1),
    name=lambda n: ("M > 0", "M < 0")[n],
    equal=2,
)
"""The two signs of the magnetisation, equally probable without a field."""


@dataclass(frozen=True)
class Signs(FieldKind):
    """A spin ±1 at each site, (batch, *lattice), a floating-point number: estimators need no special case."""

    name = "spins"
    states = 2
    symmetries = MappingProxyType({"z2": lambda x, _: -x})
    picture = Picture(symbol=r"$s_x$", words="the spins s(x) = ±1", values=(-1.0, 1.0))

    def check_values(self, x: Tensor) -> None:
        if not bool((x.abs() == 1).all()):
            raise ValueError("expected spins ±1, got other numbers among them")

    def start(self, lattice: Lattice, n: int, generator: Generator, dtype: torch.dtype) -> Spins:
        """±1 with equal probability."""
        heads = torch.randint(2, (n, *lattice), generator=generator, device=generator.device)
        return (2 * heads - 1).to(dtype)

    def changed(self, x: Tensor, generator: Generator) -> Spins:  # noqa: ARG002 (there is one other value)
        """The other sign."""
        return -x

    def observables(self, lattice: Lattice) -> tuple[Observable, ...]:
        volume = math.prod(lattice)
        magnetization = [
            replace(one, sectors=PHASES, spacing=2 / volume, meaning="M = V⁻¹ Σ s(x).")
            if one.name == "magnetization"
            else one
            for one in magnetic(lattice)
        ]
        return (
            *thermodynamic(volume),
            Observable("energy", "⟨E⟩/V", bond_energy),
            *magnetization,
            Observable(
                "two_point", function=two_point, axes=("time",), symbol="C(t)",
                meaning="C(t) = Σ_x⃗ ⟨s(0,0) s(t,x⃗)⟩ along direction 0, not connected: it does not fall to "
                "zero in an ordered phase. Neighbouring times are correlated, so several pulls of one sign "
                "are no surprise.",
            ),
        )  # fmt: skip


def thermodynamic(volume: int) -> list[Observable]:
    """What follows from the action of a discrete field and from its weights: F/V, entropy, specific heat."""
    return [
        Observable("free_energy_density", "F/V", estimate=lambda sample: sample.free_energy_density(volume)),
        Observable("entropy", "entropy", of=("action",), estimate=lambda sample: sample.entropy()),
        Observable(
            "specific_heat",
            "specific heat",
            of=("action",),
            each=_shifted,
            average=lambda s, s_squared: specific_heat(s, s_squared, volume),
        ),
    ]


def _shifted(action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S is a sum of many bonds: about its mean its variance loses no digits."""
    shifted = action - action.mean()
    return shifted, shifted**2


SPINS = Signs()
"""The kind of Ising spins."""
