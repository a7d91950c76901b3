"""Observables of a two-dimensional U(1) gauge field: gauge-invariant functions of each configuration."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from latflow.lattice import wrapped
from latflow.links import plaquette_angles
from latflow.types import Links, LogProb


def plaquette(links: Links) -> LogProb:
    """V⁻¹ Σ_x cos P(x) of each configuration."""
    return torch.cos(plaquette_angles(links)).flatten(1).mean(1)


def wilson_loop(links: Links, r0: int, r1: int) -> LogProb:
    """The mean over x of cos W(x) of each configuration, W the angle around a rectangle of r0 × r1.

        W(x) = Σ_{i<r0} θ_0(x+i0̂) + Σ_{j<r1} θ_1(x+r0 0̂+j1̂) − Σ_{i<r0} θ_0(x+r1 1̂+i0̂) − Σ_{j<r1} θ_1(x+j1̂)

    Args:
        links: link angles.
        r0: the extent in time, from 1 to L0.
        r1: the extent in space, from 1 to L1.

    Raises:
        ValueError: when the rectangle does not fit on the lattice.
    """
    l0, l1 = links.shape[2:]
    if not (1 <= r0 <= l0 and 1 <= r1 <= l1):
        raise ValueError(f"expected a loop of 1 to {l0} times 1 to {l1}, got {r0} times {r1}")
    time, space = _line(links[:, 0], 1, r0), _line(links[:, 1], 2, r1)
    loop = time + space.roll(-r0, 1) - time.roll(-r1, 2) - space
    return torch.cos(loop).flatten(1).mean(1)


def closed_loop(links: Links, path: Sequence[tuple[int, int]]) -> LogProb:
    """The mean over x of cos W(x) of each configuration, W the angle along any closed path that starts at x.

    Links are added where the path goes forward along their direction, and subtracted where it goes back. A
    path may cross itself, and may close around the torus.

    Args:
        links: link angles.
        path: (direction, length) of each straight piece; a negative length goes back.

    Raises:
        ValueError: for a direction that is neither 0 nor 1, a path without links, or one that is not closed.

    Example:
        >>> links = torch.rand(2, 2, 4, 6)
        >>> square = closed_loop(links, [(0, 1), (1, 1), (0, -1), (1, -1)])
        >>> torch.allclose(square, plaquette(links))
        True
    """
    lattice, end = tuple(links.shape[2:]), [0, 0]
    angle = torch.zeros_like(links[:, 0])
    if not any(length for _, length in path) or any(direction not in (0, 1) for direction, _ in path):
        raise ValueError(f"expected pieces of the directions 0 and 1 with links on them, got {list(path)}")
    for direction, length in path:
        for _ in range(abs(length)):
            if length < 0:
                end[direction] -= 1
            # the value at x of the link that the path meets, when it starts at x
            step = links[:, direction].roll([-coordinate for coordinate in end], (1, 2))
            angle = angle + step if length > 0 else angle - step
            if length > 0:
                end[direction] += 1
    if any(coordinate % side for coordinate, side in zip(end, lattice, strict=True)):
        raise ValueError(
            f"expected a closed path, got one that ends {tuple(end)} from its start: {list(path)}"
        )
    return torch.cos(angle).flatten(1).mean(1)


def polyakov_loop(links: Links) -> Complex[Tensor, "batch"]:
    """L1⁻¹ Σ_{x1} exp(i Σ_{x0} θ_0(x0, x1)) of each configuration: the loops that wind around time.

    It is complex, in the precision of the links. Without matter its expectation value is zero, the theory
    being symmetric under turning all loops by one angle. Charge conjugation makes its imaginary part vanish
    on average, so that samplers record the real part, as "polyakov".
    """
    angles = links[:, 0].sum(1)
    return torch.complex(torch.cos(angles), torch.sin(angles)).mean(1)


def topological_charge(links: Links) -> LogProb:
    """Q = (2π)⁻¹ Σ_x P(x) of each configuration, with every P(x) in (−π, π].

    The sum is a whole number on a torus, where each link occurs with both signs; it is returned without the
    rounding errors, as a floating-point number.
    """
    return (wrapped(plaquette_angles(links)).flatten(1).sum(1) / (2 * math.pi)).round()


def _line(angles: Float[Tensor, "batch L0 L1"], axis: int, length: int) -> Float[Tensor, "batch L0 L1"]:
    """The sum of `length` angles in a row along the axis, from each site on."""
    around = torch.cat((angles, angles.narrow(axis, 0, length - 1)), axis)
    return around.unfold(axis, length, 1).sum(-1)
