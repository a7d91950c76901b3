"""Real scalar fields: one number a site."""

import math
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.fields.base import FieldKind, Manifold, Picture
from latflow.fields.identities import Identities, Theory, of_real_numbers
from latflow.formulas import binder_cumulant, correlation_length, effective_mass, susceptibility
from latflow.observables.base import Observable
from latflow.observables.scalar import lowest_mode, magnetization, phi_squared, two_point
from latflow.types import Lattice

_START_SPREAD = 0.1
"""Of the fields from which chains start: small, where every action is finite and no vacuum is preferred."""

_CORRELATOR = (
    "C(t) = Σ_x⃗ ⟨φ(0,0) φ(t,x⃗)⟩ along direction 0. Neighbouring times are correlated, so several pulls of "
    "one sign are no surprise."
)


@dataclass(frozen=True)
class Scalar(FieldKind):
    """A real number at each site, (batch, *lattice)."""

    name = "scalar"
    manifold = Manifold()
    established = ("hmc",)
    symmetries = MappingProxyType({"z2": lambda x, _: -x})
    picture = Picture()

    def start(self, lattice: Lattice, n: int, generator: Generator, dtype: torch.dtype) -> Tensor:
        """Small normal numbers."""
        shape = (n, *lattice)
        return _START_SPREAD * torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)

    def identities(self, theory: Theory, x: Tensor, generator: Generator, sites: Tensor) -> Identities:  # noqa: ARG002
        """Those of derivatives."""
        return of_real_numbers(theory, x)

    def observables(self, lattice: Lattice) -> tuple[Observable, ...]:
        found = [
            Observable("phi_squared", "⟨φ²⟩", phi_squared),
            *magnetic(lattice),
            Observable("two_point", function=two_point, axes=("time",), symbol="C(t)", meaning=_CORRELATOR),
        ]
        if lattice[0] >= 4:
            found.append(
                Observable(
                    "effective_mass_1",
                    "m_eff(1)",
                    of=("two_point",),
                    each=lambda c: c[..., :3],
                    average=lambda c: effective_mass(c)[0],
                    may_be_undefined=True,
                )
            )
        return tuple(found)


def magnetic(lattice: Lattice) -> list[Observable]:
    """The magnetisation and what follows from its moments, for any field with a real number at each site."""
    volume, longest = math.prod(lattice), max(lattice)
    of = ("magnetization",)
    found = [
        Observable("abs_magnetization", "⟨|M|⟩", of=of, each=np.abs, slow=True, symbol="|M|", tex=r"$|M|$"),
        Observable(
            "magnetization",
            "⟨M⟩",
            magnetization,
            odd=True,
            shown=("history", "histogram"),
            symbol="M",
            tex="$M$",
            meaning="M = V⁻¹ Σ φ(x).",
        ),
        Observable(
            "sign_of_magnetization", "⟨sign M⟩", of=of, each=np.sign, odd=True, balanced=True, symbol="M"
        ),
        Observable("V_magnetization_squared", "V⟨M²⟩", of=of, each=lambda m: volume * m**2),
        Observable(
            "susceptibility",
            "V(⟨M²⟩−⟨|M|⟩²)",
            of=of,
            each=lambda m: (m**2, abs(m)),
            average=lambda m_squared, m_abs: susceptibility(m_squared, m_abs, volume),
        ),
        Observable(
            "binder_cumulant",
            "Binder cumulant",
            of=of,
            each=lambda m: (m**2, m**4),
            average=binder_cumulant,
            scaling=0,
            tex="$U$",
        ),
        Observable("lowest_mode", function=lowest_mode),
    ]
    if longest > 1:
        found.append(
            Observable(
                "correlation_length",
                "ξ (second moment)",
                of=("magnetization", "lowest_mode"),
                each=lambda m, mode: (volume * m**2, mode),
                average=lambda zero, lowest: correlation_length(zero, lowest, longest),
                may_be_undefined=True,
                scaling=1,
                symbol="ξ",
                tex=r"$\xi$",
            )
        )
    return found


SCALAR = Scalar()
"""The kind of scalar theories."""
