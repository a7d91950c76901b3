"""Learning without gradients: counting what the exact distributions of single sites say."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from latflow.densities.base import Density
from latflow.estimators.base import Estimate, Gather, alone
from latflow.estimators.labels import Populated, SiteDensity
from latflow.theories.base import Action
from latflow.types import Count, Field, Lattice


@runtime_checkable
class CountedDensity(SiteDensity, Protocol):
    """A density that is made of counts."""

    def count(self, x: Field, generator: Generator) -> Tensor:
        """What fields from p say, (2, slots): counts add up."""
        ...

    def fit(self, counts: Tensor) -> None:
        """Learn from all counts."""
        ...

    def carried(self, counts: Tensor, lattice: Lattice) -> Tensor:
        """What counts of the density on another lattice say on this."""
        ...


class Counting(Populated):
    """Counts of what each site of a population should be, of which the density is made now and then.

    The chains of each call are counted once. The density is made anew after `first` calls on a lattice, and
    whenever their number has grown by the factor `growth` since; then old counts, from chains that a worse
    density moved, keep the weight `memory` beside all that come later. The loss is zero: it has no gradient.

    Args:
        chains: of each process, as of `Populated`.
        proposals: of the density, for each chain that a call moves, as of `Populated`.
        sweeps: of the heat bath in each call.
        first: calls before the first time.
        growth: by which factor their number grows until the next time, above 1.
        memory: the weight of old counts, from 0 to 1.

    Raises:
        ValueError: as `Populated`.
    """

    has_gradient = False
    name = "counting"
    pupil = CountedDensity
    example = "is made of counts, such as multilevel by tables"

    def __init__(
        self,
        chains: Count = 512,
        proposals: float = 1.0,
        sweeps: Count = 1,
        first: Count = 5,
        growth: float = 1.6,
        memory: float = 0.3,
    ) -> None:
        super().__init__(chains, proposals, sweeps)
        if first < 1 or not growth > 1 or not 0 <= memory <= 1:
            raise ValueError(
                f"expected first ≥ 1, growth > 1 and 0 ≤ memory ≤ 1, got {first=}, {growth=} and {memory=}"
            )
        self.first: Count = first
        self.growth: float = growth
        self.memory: float = memory
        self._counts: Tensor | None = None
        self._lattice: Lattice = ()
        self._since = 0
        """Calls on this lattice."""

    def pieces(
        self,
        density: Density,
        action: Action,
        n: int,
        generator: Generator,
        sub_batch: int,
        gather: Gather = alone,
    ) -> Iterator[Estimate]:
        yield from super().pieces(density, action, n, generator, sub_batch, gather)
        assert isinstance(density, CountedDensity)
        assert self._counts is not None
        self._since += 1
        if self._due():
            counts = gather(self._counts[None])
            density.fit(counts.sum(0))
            self._counts *= self.memory

    def _due(self) -> bool:
        calls = self.first
        while calls < self._since:
            calls = max(calls + 1, round(self.growth * calls))
        return calls == self._since

    def _learn(self, density: CountedDensity, x: Field, generator: Generator) -> Tensor:
        lattice = tuple(x.shape[1:])
        if lattice != self._lattice:
            self._counts = density.carried(self._counts, self._lattice) if self._counts is not None else None
            self._lattice, self._since = lattice, 0
        found = density.count(x, generator)
        self._counts = found if self._counts is None else self._counts.add_(found)
        return found.new_zeros(())

    def state_dict(self) -> dict[str, Tensor]:
        if self._counts is None:
            return super().state_dict()
        place = torch.tensor([[self._since, *self._lattice]])
        return super().state_dict() | {"counts": self._counts[None], "place": place}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        parts = dict(state)
        if "counts" in parts:
            self._counts = parts.pop("counts")[0]
            self._since, *sides = parts.pop("place")[0].tolist()
            self._lattice = tuple(sides)
        super().load_state_dict(parts)
