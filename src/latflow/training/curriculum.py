"""A curriculum: training that begins on smaller lattices, where steps cost less and teach more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from latflow.lattice import checked_lattice
from latflow.theories.base import Action
from latflow.types import Lattice


@runtime_checkable
class Heir(Protocol):
    """A density that has more parameters on larger lattices."""

    def inherit(self, other: Any) -> None:
        """Begin with what the same density has learned on the lattice before."""
        ...


@dataclass(frozen=True)
class Curriculum:
    """The lattices of the first steps; all later ones are made on the lattice of the theory itself.

    The parameters of the density are the same on every lattice, as its `on_lattice` has them, but for what a
    larger lattice has in addition, which begins with what was learned before.

    Args:
        lattices: one after the other, each its side lengths.
        steps: how many steps are made on each.

    Raises:
        ValueError: unless there is a number of steps, at least 1, for each lattice.
    """

    lattices: Sequence[Sequence[int]]
    steps: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.lattices) != len(self.steps) or not self.lattices or min(self.steps) < 1:
            raise ValueError(
                "expected lattices, and as many numbers of steps, each at least 1, got "
                f"{list(self.lattices)} and {list(self.steps)}"
            )
        for lattice in self.lattices:
            checked_lattice(lattice)

    @property
    def total(self) -> int:
        """Steps on other lattices than that of the theory."""
        return sum(self.steps)

    def lattice(self, step: int) -> Lattice | None:
        """Of the update number `step` (from 0); None where it is that of the theory."""
        for lattice, steps in zip(self.lattices, self.steps, strict=True):
            if step < steps:
                return tuple(lattice)
            step -= steps
        return None

    def parts(self, density: Any, action: Action) -> dict[Lattice, tuple[Any, Action]]:
        """The density and the theory on each of the lattices.

        Raises:
            ValueError: for a density or a theory that is bound to its lattice, or has other dimensions.
        """
        if not hasattr(density, "on_lattice"):
            raise ValueError(f"expected a density with `on_lattice`, got {type(density).__name__}")
        found = {}
        for lattice in map(tuple, self.lattices):
            found[lattice] = density.on_lattice(lattice), action.on_lattice(lattice)
        return found
