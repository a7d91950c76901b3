"""Geometry of periodic hypercubic lattices: volume, momenta, checkerboards."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latflow.types import Field, Lattice, LogProb, Mask, Sites


def checked_lattice(lattice: Sequence[int]) -> Lattice:
    """The side lengths as a tuple.

    Raises:
        ValueError: unless there are one to three sides, each a positive whole number.
    """
    sides = tuple(lattice)
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    if not 1 <= len(sides) <= 3 or not whole:
        raise ValueError(f"expected a lattice of one to three positive side lengths, got {lattice!r}")
    return sides


def checked_plane(lattice: Sequence[int]) -> Lattice:
    """The side lengths of a two-dimensional lattice as a tuple.

    Raises:
        ValueError: unless there are two sides, each a whole number of at least 2.
    """
    sides = checked_lattice(lattice)
    if len(sides) != 2 or min(sides) < 2:
        raise ValueError(f"expected a lattice of two sides, each at least 2, got {lattice!r}")
    return sides


def wrapped(angles: Tensor) -> Tensor:
    """The same angles in (−π, π]."""
    turned = angles - 2 * math.pi * torch.ceil((angles - math.pi) / (2 * math.pi))
    # rounding can carry an angle past either end, and both are the angle π
    return torch.where((turned > math.pi) | (turned <= -math.pi), math.pi, turned)


def summed(numbers: Tensor) -> LogProb:
    """The sum over all but the batch, in float64: what decides is summed so in every precision of fields."""
    return numbers.flatten(1).sum(1, dtype=torch.float64)


def volume(lattice: Lattice) -> int:
    """Number of sites V = Π_μ L_μ."""
    return math.prod(lattice)


def batches(n: int, lattice: Lattice, sites: int) -> list[int]:
    """Numbers of fields that add up to n, each of at most so many sites or of one field.

    >>> batches(5, (4, 4), 32)
    [2, 2, 1]
    """
    most = max(1, sites // volume(lattice))
    return [min(most, n - first) for first in range(0, n, most)]


def momenta(lattice: Lattice) -> Tensor:
    """Momenta p_μ = 2π n_μ / L_μ of a periodic lattice, shape (d, *lattice), float64."""
    axes = [2 * math.pi * torch.arange(side, dtype=torch.float64) / side for side in lattice]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def lattice_momentum_squared(lattice: Lattice) -> Tensor:
    """k̂² = Σ_μ 4 sin²(p_μ/2), the eigenvalues of −Δ, shape `lattice`, float64."""
    return (4 * torch.sin(momenta(lattice) / 2) ** 2).sum(0)


def checkerboard(lattice: Lattice, parity: int) -> Mask:
    """The sites with Σ_μ x_μ ≡ parity (mod 2)."""
    coordinates = torch.meshgrid(*(torch.arange(side) for side in lattice), indexing="ij")
    return torch.stack(coordinates).sum(0) % 2 == parity % 2


def check_even(lattice: Sequence[int]) -> None:
    """Raise ValueError, naming the side, where one is odd: the torus then has no checkerboard."""
    odd = [side for side in lattice if side % 2]
    if odd:
        raise ValueError(
            f"a checkerboard needs even sides, got lattice {tuple(lattice)} with the odd side {odd[0]}"
        )


class Checkerboard:
    """Splits a field into the active sites, Σ_μ x_μ ≡ parity (mod 2), and the frozen others.

    With even sides, the sites of one colour whose coordinates are even or odd in a given way form a regular
    sublattice; splitting and merging handle these as strided slices, on a CPU faster than
    masks or index tables. Nothing is stored but the parity: the lattice is that of the field which comes.

    Args:
        parity: 0 or 1, the colour of the active sites.
    """

    def __init__(self, parity: int) -> None:
        self.parity: int = parity % 2

    def active(self, x: Tensor, dimensions: int) -> Tensor:
        """The active sites of `x`, (*leading, *lattice) with `dimensions` lattice axes, as (*leading, V/2).

        Raises:
            ValueError: when a side is odd, for then the torus has no checkerboard.
        """
        return _colour(x, dimensions, self.parity)

    def split(self, x: Field) -> tuple[Sites, Sites]:
        """(active, frozen), each (batch, V/2).

        Raises:
            ValueError: as in `active`.
        """
        dimensions = x.ndim - 1
        return _colour(x, dimensions, self.parity), _colour(x, dimensions, 1 - self.parity)

    def merge(self, active: Sites, frozen: Sites, lattice: Sequence[int]) -> Field:
        """The field whose sites were split: the inverse of `split`."""
        corners = _corners(len(lattice))
        shape = (len(active), len(corners), *(side // 2 for side in lattice))
        sublattices = zip(
            corners, active.reshape(shape).unbind(1), frozen.reshape(shape).unbind(1), strict=True
        )
        rows = [
            torch.stack((a, f) if (self.parity + sum(corner)) % 2 == 0 else (f, a), -1).flatten(-2)
            for corner, a, f in sublattices
        ]
        for axis in range(len(lattice) - 1, 0, -1):
            pairs = zip(rows[::2], rows[1::2], strict=True)
            rows = [torch.stack(pair, axis + 1).flatten(axis, axis + 1) for pair in pairs]
        return rows[0]

    def frozen_only(self, frozen: Sites, lattice: Sequence[int]) -> Field:
        """The field with the active sites set to zero."""
        return self.merge(torch.zeros_like(frozen), frozen, lattice)


def _colour(x: Tensor, dimensions: int, parity: int) -> Tensor:
    lattice, leading = x.shape[x.ndim - dimensions :], x.ndim - dimensions
    check_even(lattice)
    sublattices = [
        x[(..., *(slice(first, None, 2) for first in (*corner, (parity + sum(corner)) % 2)))]
        for corner in _corners(dimensions)
    ]
    return torch.stack(sublattices, leading).flatten(leading)


def _corners(dimensions: int) -> list[tuple[int, ...]]:
    """Even or odd in each direction but the last, which the colour then fixes."""
    return list(itertools.product((0, 1), repeat=dimensions - 1))
