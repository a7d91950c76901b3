"""Priors: densities which are drawn exactly, and which alone know the lattice of a flow."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from latflow.densities.base import Strata
from latflow.fields import SCALAR, FieldKind
from latflow.lattice import checked_lattice, summed
from latflow.types import Field, Lattice, LogProb


class Prior(nn.Module, ABC):
    """A density r(z) over batches of fields on a lattice; dtype and device move with `.to()`."""

    like: Tensor
    kind: FieldKind
    """Of the fields that are drawn."""
    normalised: bool = True
    """Whether the integral of r is one; else it is a constant that nobody knows, as ∫ exp(−S)."""

    def __init__(self, lattice: Sequence[int]) -> None:
        super().__init__()
        self.lattice: Lattice = checked_lattice(lattice)
        self.register_buffer("like", torch.empty(0), persistent=False)

    @abstractmethod
    def sample(self, n: int, generator: Generator) -> Field:
        """n independent draws."""

    @abstractmethod
    def log_prob(self, z: Field) -> LogProb:
        """log r(z)."""

    def strata(self, z: Field) -> Strata | None:
        """Which part of a mixture z is of, where r is one whose parts do not overlap; else None.

        Within a part the score has mean zero, too: estimates of its gradient are centred there.
        """

    def on_lattice(self, lattice: Sequence[int]) -> "Prior":
        """The same prior on another lattice."""
        return type(self)(lattice).to(self.like)


class Normal(Prior):
    """Independent standard normal numbers: log r(z) = −½ Σ z² − (V/2) log 2π."""

    kind: FieldKind = SCALAR

    def sample(self, n: int, generator: Generator) -> Field:
        """n independent draws, (n, *lattice)."""
        shape = (n, *self.lattice)
        return torch.randn(shape, generator=generator, dtype=self.like.dtype, device=self.like.device)

    def log_prob(self, z: Field) -> LogProb:
        """log r(z)."""
        sites = math.prod(z.shape[1:])
        return -0.5 * summed(z * z) - 0.5 * sites * math.log(2 * math.pi)
