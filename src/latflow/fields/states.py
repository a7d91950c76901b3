"""Fields with q values a site: the whole numbers 0 … q−1."""

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Generator, Tensor
from torch.nn import functional

from latflow.fields.base import FieldKind, Picture
from latflow.fields.identities import Vectors
from latflow.types import Lattice


@dataclass(frozen=True)
class States(FieldKind):
    """One of q values at each site, an integer (int64), (batch, *lattice).

    Args:
        q: how many, at least 2.

    Raises:
        ValueError: for fewer.
    """

    q: int

    def __post_init__(self) -> None:
        if self.q < 2:
            raise ValueError(f"expected at least 2 states a site, got {self.q}")

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"{self.q} states"

    @property
    def states(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.q

    @property
    def picture(self) -> Picture:  # pyright: ignore[reportIncompatibleVariableOverride]
        values = tuple(map(float, range(self.q)))
        return Picture(symbol=r"$s_x$", words=f"the states s(x) = 0 … {self.q - 1}", values=values)

    @property
    def symmetries(self) -> MappingProxyType:  # pyright: ignore[reportIncompatibleVariableOverride]
        """New names of the states, the same at all sites."""
        return MappingProxyType({"renaming": self._renamed})

    def _renamed(self, x: Tensor, generator: Generator) -> Tensor:
        """The states of each configuration by new names, which are drawn at random."""
        order = torch.rand(len(x), self.q, generator=generator, device=generator.device).argsort(1)
        return order.gather(1, x.flatten(1)).view_as(x)

    def check_values(self, x: Tensor) -> None:
        if x.dtype.is_floating_point or not bool(((x >= 0) & (x < self.q)).all()):
            raise ValueError(f"expected whole numbers 0 … {self.q - 1}, got others among them")

    def start(self, lattice: Lattice, n: int, generator: Generator, dtype: torch.dtype) -> Tensor:  # noqa: ARG002
        """Each state with equal probability, whatever the precision of the weights."""
        return torch.randint(self.q, (n, *lattice), generator=generator, device=generator.device)

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """1 where two states differ."""
        return (one != other).double()

    def vectors(self, x: Tensor, lattice: Lattice) -> Vectors:  # noqa: ARG002
        """Which of the q states each site has."""
        return functional.one_hot(x, self.q).movedim(-1, 1).double()

    def changed(self, x: Tensor, generator: Generator) -> Tensor:
        """One of the other states, each with equal probability."""
        return (x + torch.randint(1, self.q, x.shape, generator=generator)) % self.q

    def __str__(self) -> str:
        return self.name
