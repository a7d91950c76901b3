"""det D for all turns of the loops around the lattice: what holonomies do to fermions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.types import Links
from latflow.wilson.elimination import turned_determinants
from latflow.wilson.escalation import Results, with_escalation
from latflow.wilson.linear_algebra import slogdet
from latflow.wilson.operator import Boundary, dense, hops


def holonomy_determinants(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic", points: int = 5
) -> Float[Tensor, "batch points points"]:
    """det D where loops in time are turned by 2πi/n and those in space by 2πj/n, over the largest |det D|.

    The plaquettes stay as they are. det D is a trigonometric polynomial in both angles, whose order is the
    number of fermions that go around at once, and its coefficients fall fast with that: a few points tell
    all of it, see `interpolated`. Angles along the direction that is eliminated share one elimination, so n²
    points take n of them.

    Args:
        links: angles θ, (batch, 2, L0, L1).
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.
        points: n along each direction.

    Raises:
        ValueError: for links of another shape, or a boundary of another name.
    """
    hops(links[:1], boundary)  # raises what is to be raised
    angles = torch.arange(points, dtype=links.dtype, device=links.device) * (2 * math.pi / points)
    # the shorter side makes the blocks, and loops along the longer one are turned at the end
    fast, slow = (1, 0) if links.shape[3] > links.shape[2] else (0, 1)
    turned = torch.stack([_turned(links, slow, angle) for angle in angles], 1).flatten(0, 1)

    def reduced(part: Links, span: int | None) -> tuple[Results, Tensor]:
        phases = hops(part, boundary)
        phases = phases.flip(1).transpose(2, 3) if fast == 1 else phases
        log_abs, sign, ratio = turned_determinants(phases, kappa, angles, span)
        return (log_abs, sign), ratio

    def densely(part: Links) -> tuple[Results, Tensor]:
        found = [slogdet(dense(_turned(part, fast, angle), kappa, boundary)) for angle in angles]
        log_abs, phase = (torch.stack(one, 1) for one in list(zip(*found, strict=True))[:2])
        return (log_abs, torch.sgn(phase.real)), torch.ones_like(log_abs[:, 0])

    (log_abs, sign), _ = with_escalation(turned, kappa, reduced, densely)
    largest = log_abs.view(len(links), -1).amax(1).repeat_interleave(points)
    values = (sign * torch.exp(log_abs - largest[:, None])).view(len(links), points, points)
    return values.to(links.dtype) if fast == 1 else values.mT.to(links.dtype)


def interpolated(
    values: Float[Tensor, "batch points points"], angles: Float[Tensor, "grid"]
) -> Float[Tensor, "batch grid grid"]:
    """The trigonometric polynomial through values at 2πi/n and 2πj/n, n odd, at all pairs of other angles."""
    points = values.shape[-1]
    apart = angles[:, None] - torch.arange(points, dtype=angles.dtype, device=angles.device) * (
        2 * math.pi / points
    )
    orders = range(1, (points + 1) // 2)
    kernel = (1 + 2 * sum((torch.cos(order * apart) for order in orders), torch.zeros_like(apart))) / points
    return kernel @ values @ kernel.mT


def _turned(links: Links, direction: int, angle: Tensor) -> Links:
    """All loops in one direction turned by an angle."""
    turned = links.clone()
    if direction == 0:
        turned[:, 0, -1] += angle
    else:
        turned[:, 1, :, -1] += angle
    return turned
