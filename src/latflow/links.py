"""What every theory of U(1) links in two dimensions is made of: plaquettes and gauge transformations."""

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.types import Links


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
