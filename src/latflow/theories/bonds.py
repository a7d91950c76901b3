"""What theories share whose nearest neighbours are joined by bonds, each with a coupling of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt
from jaxtyping import Float
from torch import Tensor

from latflow.lattice import checked_lattice
from latflow.theories.base import Action, check_finite
from latflow.theories.neighbours import nested


@dataclass(frozen=True)
class RandomCouplings:
    """Couplings of bonds that are drawn at random, the same for the same seed in every version.

    Args:
        distribution: "normal", Gaussian numbers of mean 0 and variance 1, or "signs", ±1 alike.
        seed: from 0 to 2³² − 1.

    Raises:
        ValueError: for another distribution or seed.
    """

    distribution: Literal["normal", "signs"]
    seed: Annotated[int, Ge(0), Lt(2**32)]

    def __post_init__(self) -> None:
        if self.distribution not in ("normal", "signs"):
            raise ValueError(f"expected a distribution, normal or signs, got {self.distribution!r}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 2**32:
            raise ValueError(f"expected a seed, a whole number from 0 to 2³² − 1, got {self.seed!r}")

    def drawn(self, *shape: int) -> np.ndarray:
        """The couplings, float64."""
        # the one generator of NumPy whose numbers are promised never to change
        normal = np.random.RandomState(self.seed).standard_normal(shape)
        return normal if self.distribution == "normal" else np.sign(normal)


Couplings = Sequence[Any] | Tensor | np.ndarray | RandomCouplings | None
"""J_μ(x), (d, *lattice), of each bond from x to x+μ, as numbers or how they are drawn; None for J = 1."""


class Bonded(Action):
    """A theory with an inverse temperature β and couplings J_μ(x) of the bonds from x to x+μ.

    Every site has a bond in each direction, so that on a side of length 2 two bonds join the same two sites.
    """

    beta: float
    couplings: Couplings
    """J as nested tuples (d, *lattice), which compare and hash; None for J = 1."""

    def _check_bonds(self) -> None:
        """Bring lattice and couplings to the form in which they are kept.

        Raises:
            ValueError: for a lattice with a side below 2, a β that is not finite, or couplings of another
                shape or not finite.
        """
        object.__setattr__(self, "lattice", checked_lattice(self.lattice))
        check_finite(beta=self.beta)
        if min(self.lattice) < 2:
            raise ValueError(f"expected sides of at least 2 for bonds, got {self.lattice}")
        if self.couplings is not None:
            shape = (len(self.lattice), *self.lattice)
            given = self.couplings
            values = given.drawn(*shape) if isinstance(given, RandomCouplings) else given
            values = np.asarray(values, dtype=np.float64)
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"expected finite couplings of shape {shape}, got shape {values.shape}")
            object.__setattr__(self, "couplings", nested(values.tolist()))

    def bond_strengths(self) -> Float[Tensor, "directions *lattice"]:
        """β J_μ(x) of every bond, float64."""
        if self.couplings is None:
            return torch.full((len(self.lattice), *self.lattice), float(self.beta), dtype=torch.float64)
        return self.beta * self._couplings

    def on_bonds(self, bonds: list[Tensor]) -> list[Tensor]:
        """J_μ(x) times what each direction μ has at x, (batch, *lattice) each."""
        if self.couplings is None:
            return bonds
        return [j * bond for j, bond in zip(self._couplings.to(bonds[0]), bonds, strict=True)]

    def of_neighbours(self, part: Tensor) -> Tensor:
        """Σ_μ [J_μ(x) part(x+μ) + J_μ(x−μ) part(x−μ)] at each site, without β."""
        axes = range(1, part.ndim)
        if self.couplings is None:
            return total([part.roll(-1, axis) + part.roll(1, axis) for axis in axes])
        pairs = list(zip(self._couplings.to(part), axes, strict=True))
        return total([j * part.roll(-1, axis) + (j * part).roll(1, axis) for j, axis in pairs])

    @cached_property
    def _couplings(self) -> Tensor:
        return torch.tensor(self.couplings, dtype=torch.float64)


def total(fields: list[Tensor]) -> Tensor:
    """The sum of fields."""
    return reduce(add, fields)
