"""Ranges of the couplings of a theory, and where in them it is."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from latflow.theories.base import Action
from latflow.theories.neighbours import NearestNeighbours


@dataclass(frozen=True)
class Span:
    """A theory in a range of its couplings, which lie at −1 ≤ t ≤ 1 in each.

        t = (2g − a − b)/(b − a)  for a coupling g in [a, b]

    Args:
        action: the theory, at couplings in the range.
        ranges: a and b, by the names of couplings.
        degree: of polynomials of all t together.

    Raises:
        ValueError: for a coupling that the theory does not have, ends that are not two numbers in ascending
            order, and a theory outside the range.
    """

    action: Action
    ranges: Mapping[str, Sequence[float]]
    degree: int

    def __post_init__(self) -> None:
        known = self.action.coupling_constants
        for name, ends in self.ranges.items():
            if name not in known:
                raise ValueError(
                    f"expected ranges of couplings of {self.action.words.name} out of "
                    f"{', '.join(known) or 'none'}, got one of {name}"
                )
            if len(ends) != 2 or not -math.inf < ends[0] < ends[1] < math.inf:
                raise ValueError(f"expected two numbers a < b as the range of {name}, got {list(ends)}")
            if not ends[0] <= known[name] <= ends[1]:
                raise ValueError(
                    f"expected {name} in its range from {ends[0]:g} to {ends[1]:g}, got {known[name]:g}"
                )
        if not self.ranges:
            raise ValueError("expected the range of at least one coupling, got none")

    @cached_property
    def position(self) -> tuple[float, ...]:
        """t of each coupling."""
        g = self.action.coupling_constants
        found = ((2 * g[name] - a - b) / (b - a) for name, (a, b) in self.ranges.items())
        return tuple(min(1.0, max(-1.0, t)) for t in found)  # of rounding at the ends

    @cached_property
    def terms(self) -> tuple[float, ...]:
        """P_k(t) = 2^(−|k|) Π_j T_{k_j}(t_j) for all degrees k with |k| = Σ k_j up to the highest; P_0 = 1.

        The powers of ½, by which coefficients of smooth functions fall, keep a step of training at the ends
        of the range below twice that in the middle.
        """
        powers = itertools.product(range(self.degree + 1), repeat=len(self.position))
        chosen = sorted((one for one in powers if sum(one) <= self.degree), key=lambda one: (sum(one), one))
        angles = [math.acos(t) for t in self.position]
        return tuple(
            math.prod(math.cos(k * angle) / 2**k for k, angle in zip(one, angles, strict=True))
            for one in chosen
        )

    @property
    def theory(self) -> NearestNeighbours:
        """By its single sites."""
        theory = self.action.nearest_neighbours()
        assert theory is not None
        return theory

    def at(self, **couplings: float) -> "Span":
        """The same range, with the theory elsewhere in it. Raises as the constructor."""
        if unknown := [name for name in couplings if name not in self.ranges]:
            raise ValueError(
                f"expected couplings that have a range, {', '.join(self.ranges)}, got {', '.join(unknown)}"
            )
        return replace(self, action=self.action.at(**couplings))

    def on_lattice(self, lattice: Sequence[int]) -> "Span":
        """The same on another lattice."""
        return replace(self, action=self.action.on_lattice(lattice))

    def knots(self, number: int) -> list[dict[str, float]]:
        """So many couplings spread over the range, denser towards its ends.

        In one coupling they are the zeros of the Chebyshev polynomial T_number; in several, points that are
        evenly spread under the same transformation of each,

            t = −cos(π u),    u_i = (i + ½)/number in the first, {½ + i α_j} in the others, α_j = φ^(−j)

        with φ > 1 the root of φ^d = φ + 1 for d couplings, the golden ratio for two.
        """
        root = 1.5
        for _ in range(64):
            root = (root + 1) ** (1 / len(self.ranges))
        return [
            {
                name: (a + b) / 2 - (b - a) / 2 * math.cos(math.pi * _spread(i, j, number, root))
                for j, (name, (a, b)) in enumerate(self.ranges.items())
            }
            for i in range(number)
        ]


def _spread(i: int, j: int, number: int, root: float) -> float:
    return (i + 0.5) / number if j == 0 else (0.5 + i * root**-j) % 1
