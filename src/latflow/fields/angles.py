"""An angle at each site: the spins of the XY model, unit vectors in a plane."""

import math
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.fields.base import FieldKind, Picture
from latflow.fields.gauge import Angles
from latflow.fields.identities import Identities, Theory, Vectors, of_angles
from latflow.formulas import Expectation, correlation_length, ratio, susceptibility
from latflow.lattice import wrapped
from latflow.observables.base import Observable
from latflow.observables.scalar import lowest_mode, magnetization, two_point
from latflow.types import Field, Lattice, LogProb

_CORRELATOR = (
    "C(t) = Σ_x⃗ ⟨cos(θ(0,0) − θ(t,x⃗))⟩ along direction 0, not connected. Neighbouring times are correlated, "
    "so several pulls of one sign are no surprise."
)


@dataclass(frozen=True)
class SiteAngles(FieldKind):
    """An angle in (−π, π] at each site, (batch, *lattice): the unit vector s(x) = (cos θ(x), sin θ(x))."""

    name = "site angles"
    manifold = Angles()
    established = ("hmc",)
    picture = Picture(symbol=r"$\theta$", words="the angles θ(x)", cyclic=True)

    @property
    def symmetries(self) -> MappingProxyType:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rotations of all sites by one angle, and the reflection θ → −θ."""
        return MappingProxyType({"u1": _rotated, "z2": lambda x, _: wrapped(-x)})

    def start(self, lattice: Lattice, n: int, generator: Generator, dtype: torch.dtype) -> Field:
        """Independent uniform angles."""
        unit = torch.rand((n, *lattice), generator=generator, device=generator.device, dtype=dtype)
        return 2 * math.pi * (0.5 - unit)

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """The shorter way around."""
        return wrapped(one - other).abs()

    def vectors(self, x: Tensor, lattice: Lattice) -> Vectors:  # noqa: ARG002
        """(cos θ, sin θ)."""
        return torch.stack((x.cos(), x.sin()), 1).double()

    def identities(self, theory: Theory, x: Tensor, generator: Generator, sites: Tensor) -> Identities:  # noqa: ARG002
        """Those of derivatives."""
        return of_angles(theory, x)

    def observables(self, lattice: Lattice) -> tuple[Observable, ...]:
        volume, longest = math.prod(lattice), max(lattice)
        of = ("abs_magnetization",)
        return (
            Observable(
                "abs_magnetization", "⟨|M|⟩", magnetizations, slow=True, shown=("history", "histogram"),
                symbol="|M|", tex=r"$|M|$",
                meaning="M is the mean of the unit vectors (cos θ, sin θ), which has no preferred direction.",
            ),
            Observable("magnetization_along", "⟨M₁⟩", magnetizations, symbol="M₁", tex="$M_1$"),
            Observable("magnetization_across", "⟨M₂⟩", magnetizations, odd=True, symbol="M₂", tex="$M_2$"),
            Observable("V_magnetization_squared", "V⟨M²⟩", of=of, each=lambda m: volume * m**2),
            Observable(
                "susceptibility", "V(⟨M²⟩−⟨|M|⟩²)", of=of, each=lambda m: (m**2, m),
                average=lambda m_squared, m_abs: susceptibility(m_squared, m_abs, volume),
            ),
            Observable(
                "binder_cumulant", "Binder cumulant", of=of, each=lambda m: (m**2, m**4),
                average=binder_cumulant_of_vectors, scaling=0, tex="$U$",
            ),
            Observable("lowest_mode", function=lowest_mode_of_vectors),
            Observable(
                "correlation_length", "ξ (second moment)", of=(*of, "lowest_mode"),
                each=lambda m, mode: (volume * m**2, mode),
                average=lambda zero, lowest: correlation_length(zero, lowest, longest),
                may_be_undefined=True, scaling=1, symbol="ξ", tex=r"$\xi$",
            ),
            Observable(
                "two_point", function=two_point_of_vectors, axes=("time",), symbol="C(t)", meaning=_CORRELATOR
            ),
        )  # fmt: skip


def magnetizations(x: Field) -> dict[str, Tensor]:
    """M = V⁻¹ Σ_x (cos θ_x, sin θ_x) of each configuration: |M|, M₁ and M₂.

    Args:
        x: angles, (batch, *lattice).

    Returns:
        "abs_magnetization", "magnetization_along" and "magnetization_across", (batch,) each.
    """
    along, across = magnetization(x.cos()), magnetization(x.sin())
    return {
        "abs_magnetization": torch.hypot(along, across),
        "magnetization_along": along,
        "magnetization_across": across,
    }


def two_point_of_vectors(x: Field) -> Float[Tensor, "batch times"]:
    """C(t) for t = 0 … L0/2 with ⟨C(t)⟩ = Σ_x⃗ ⟨cos(θ_(0,0) − θ_(t,x⃗))⟩, as `observables.two_point`."""
    return two_point(x.cos()) + two_point(x.sin())


def lowest_mode_of_vectors(x: Field) -> LogProb:
    """The lowest mode of cos θ plus that of sin θ, as `observables.lowest_mode`; its zero mode is V M²."""
    return lowest_mode(x.cos()) + lowest_mode(x.sin())


def binder_cumulant_of_vectors(m_squared: Expectation, m_fourth: Expectation) -> Expectation:
    """U = 1 − ⟨M⁴⟩ / (2 ⟨M²⟩²) of a vector M of two components: 0 for a Gaussian one, ½ in perfect order."""
    return 1 - ratio(m_fourth, 2 * m_squared**2)


def _rotated(x: Field, generator: Generator) -> Field:
    """All angles of each configuration turned by one, drawn uniformly."""
    shape = (len(x), *[1] * (x.ndim - 1))
    unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    return wrapped(x + (2 * math.pi * unit).to(x))


SITE_ANGLES = SiteAngles()
"""The kind of the XY model."""
