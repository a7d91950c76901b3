"""U(1) gauge theory on a periodic two-dimensional lattice, by the angles of its links."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.actions.base import Action
from latflow.lattice import checked_plane
from latflow.types import Lattice, Links, LogProb


def plaquette_angles(links: Links) -> Float[Tensor, "batch L0 L1"]:
    """P(x) = θ_0(x) + θ_1(x+0̂) − θ_0(x+1̂) − θ_1(x), as the sum gives it: not wrapped to (−π, π]."""
    time, space = links.unbind(1)
    return time + space.roll(-1, 1) - time.roll(-1, 2) - space


def gauge_transformed(links: Links, angles: Float[Tensor, "batch L0 L1"]) -> Links:
    """θ_μ(x) + α(x) − α(x+μ̂), not wrapped.

    Args:
        links: the angles θ_μ(x).
        angles: the gauge transformation α(x), one angle for each site.
    """
    return links + torch.stack([angles - angles.roll(-1, axis) for axis in (1, 2)], 1)


@dataclass(frozen=True)
class LinkTheory(Action):
    """What theories of U(1) links share: two dimensions, angles as field, charge conjugation."""

    lattice: Lattice
    kind: ClassVar[str] = "gauge"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lattice", checked_plane(self.lattice))

    @property
    def field_shape(self) -> tuple[int, ...]:
        """(2, L0, L1): an angle for each of the two directions at each site."""
        return (2, *self.lattice)

    @property
    def z2_symmetric(self) -> bool:
        """True: charge conjugation θ → −θ leaves S as it is."""
        return True

    def _check(self, x: Links) -> None:
        if x.shape[1:] != self.field_shape:
            expected, got = self.field_shape, tuple(x.shape[1:])
            raise ValueError(f"expected links of shape {expected} after the batch, got {got}")


@dataclass(frozen=True)
class U1Gauge(LinkTheory):
    """U(1) gauge theory with Wilson's action.

        S(θ) = −β Σ_x cos P(x),   P(x) = θ_0(x) + θ_1(x+0̂) − θ_0(x+1̂) − θ_1(x)

    Fields are link angles (batch, 2, L0, L1), direction first, direction 0 time; every angle is taken modulo
    2π. Source: Wilson, Confinement of quarks, Physical Review D 10 (1974) 2445.

    Args:
        lattice: the two side lengths (L0, L1), each at least 2.
        beta: the inverse coupling β.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 2.

    Example:
        >>> import torch
        >>> U1Gauge((4, 6), beta=2.0)(torch.zeros(1, 2, 4, 6))
        tensor([-48.])
    """

    beta: float

    def __call__(self, x: Links) -> LogProb:
        self._check(x)
        return -self.beta * torch.cos(plaquette_angles(x)).flatten(1).sum(1)

    def force(self, x: Links) -> Links:
        """−∂S/∂θ_0(x) = β [sin P(x−1̂) − sin P(x)] and −∂S/∂θ_1(x) = β [sin P(x) − sin P(x−0̂)]."""
        sine = self.beta * torch.sin(plaquette_angles(x))
        return torch.stack((sine.roll(1, 2) - sine, sine - sine.roll(1, 1)), 1)
