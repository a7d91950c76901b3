"""What theories of U(1) links in two dimensions are made of: plaquettes, holonomies, gauge turns."""

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.lattice import wrapped
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


def axial_links(plaquettes: Float[Tensor, "batch L0 L1"], holonomies: Float[Tensor, "batch 2"]) -> Links:
    """Links with these plaquettes, which add up to a multiple of 2π, and these `holonomies`, not wrapped.

    In the gauge θ_0(x) = 0 for x_0 < L0 − 1, θ_1(0, x_1 > 0) = 0 two angles are left, which are fixed by the
    holonomies.
    """
    time, space = torch.zeros_like(plaquettes), torch.zeros_like(plaquettes)
    # P = θ_1(x+0̂) − θ_1(x) but at the last time, where θ_0(x) − θ_0(x+1̂) adds what the column lacks
    space[:, 1:] = plaquettes[:, :-1].cumsum(1)
    time[:, -1, 1:] = -plaquettes.sum(1)[:, :-1].cumsum(1)
    # an angle that does not depend on the other coordinate cancels in every plaquette
    along_time, along_space = unwound(plaquettes)
    time[:, -1] += (holonomies[:, 0] - along_time.mean(1))[:, None]
    space[:, :, 0] += (holonomies[:, 1] - along_space.mean(1))[:, None]
    return torch.stack((time, space), 1)


def holonomies(links: Links) -> Float[Tensor, "batch 2"]:
    """h_μ = mean of U_μ, the angles of the loops around the torus in direction μ, not wrapped.

        U_0(x_1) = Σ_{x_0} θ_0(x_0, 0) − Σ_{y < x_1} Σ_{x_0} F(x_0, y),   and likewise U_1(x_0) with a plus,

    where F are the plaquettes in (−π, π]: the loops are followed along the lattice from the first one, so
    that neighbours differ by what lies between them and not by turns of 2π. Together with F, whose sum is
    2πQ, they are everything gauge invariant; h is defined modulo 2π. In pure gauge theory h is uniform and
    independent of F.
    """
    along_time, along_space = unwound(wrapped(plaquette_angles(links)))
    first = torch.stack((links[:, 0, :, 0].sum(1), links[:, 1, 0].sum(1)), 1)
    return first + torch.stack((along_time.mean(1), along_space.mean(1)), 1)


def unwound(plaquettes: Float[Tensor, "batch L0 L1"]) -> tuple[Tensor, Tensor]:
    """U_0(x_1) − U_0(0), (batch, L1), and U_1(x_0) − U_1(0), (batch, L0), of `holonomies`."""
    columns, rows = plaquettes.sum(1), plaquettes.sum(2)
    return columns - columns.cumsum(1), rows.cumsum(1) - rows
