"""What a configuration is (`FieldKind`), and how it moves (`Manifold`)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Generator, Tensor

from latflow.fields.identities import Identities, Theory, Vectors, of_changes, of_moves
from latflow.lattice import summed
from latflow.observables.base import Observable
from latflow.types import Field, Lattice, LogProb

Transformation = Callable[[Tensor, Generator], Tensor]
"""A symmetry of a kind of field: the transformed batch, with random parameters from the generator."""


class Manifold:
    """How the configurations of a kind of field move: here real numbers, for which a tangent is a field.

    Hybrid Monte Carlo, pulled-back actions and the path gradient know fields through this alone. A group of
    matrices overrides `move`, `project`, `pairing` and `tangent_shape`; angles only `canonical`.
    """

    linear: ClassVar[bool] = True
    """Whether a field plus a tangent is the field moved by it, up to `canonical`."""

    flat: ClassVar[bool] = True
    """Whether fields are just real numbers: then Fourier modes may move with masses of their own."""

    def move(self, x: Field, tangent: Field, step: float | Tensor = 1.0) -> Field:
        """The configuration at distance `step` along a tangent at x.

        A momentum must mean the same at both ends, as that of a group does with tangents at its identity.

        Args:
            x: configurations.
            tangent: at x.
            step: one number, or one for each chain in the shape of tangents, (batch, 1, …).
        """
        if isinstance(step, Tensor):
            return torch.addcmul(x, tangent, step)
        return x.add(tangent, alpha=step)

    def canonical(self, x: Field) -> Field:
        """The same configuration, written in the one way in which chains hold it."""
        return x

    def project(self, x: Field, gradient: Field) -> Field:  # noqa: ARG002 (x matters on curved manifolds)
        """The gradient of a function at x as a tangent, from its derivatives by the numbers of x."""
        return gradient

    def pairing(self, x: Field, tangent: Field) -> LogProb:
        """A number for each configuration that changes by the inner product ⟨tangent, dx⟩ as x → x + dx."""
        return (tangent * x).flatten(1).sum(1)

    def inner(self, one: Field, other: Field) -> LogProb:
        """⟨one, other⟩ of two tangents, summed in float64: the kinetic energy is ½⟨π, π⟩."""
        return summed(one * other)

    def tangent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the momenta, which are standard normal numbers, of configurations of a shape."""
        return shape


@dataclass(frozen=True)
class Picture:
    """How configurations of a kind of field are drawn.

    Attributes:
        numbers: configurations (n, …) to one number a site (n, *lattice).
        symbol: of that number, in a figure.
        words: what it is, in a caption: "the field φ(x)".
        values: the numbers that there are, where they are few.
        cyclic: whether they are angles in (−π, π].
    """

    numbers: Callable[[Tensor], Tensor] = lambda x: x
    symbol: str = r"$\phi$"
    words: str = "the field φ"
    values: tuple[float, ...] | None = None
    cyclic: bool = False


class FieldKind(ABC):
    """What a configuration is. Kinds are objects that compare equal where they mean the same.

    A kind of one's own needs `name`, `start`, and a manifold if it is to be moved by hybrid Monte Carlo.
    """

    name: str
    """In messages: "scalar", "links", "spins", "3 states"."""
    manifold: Manifold | None = None
    """How configurations move; None for discrete ones."""
    states: int | None = None
    """How many values a site has; None for continuous fields."""
    established: tuple[str, ...] = ()
    """The registered samplers of the chain beside a model, unless theory or configuration name others."""
    picture: Picture = Picture()
    symmetries: Mapping[str, Transformation] = MappingProxyType({})
    """Transformations under which a density may claim to be invariant, by name."""

    def shape(self, lattice: Lattice) -> tuple[int, ...]:
        """The shape of one configuration: one number a site unless the kind says otherwise."""
        return lattice

    def check(self, x: Tensor, lattice: Lattice) -> None:
        """Refuse a batch of another shape.

        Raises:
            ValueError: saying what was expected and what came.
        """
        if tuple(x.shape[1:]) != tuple(self.shape(lattice)):
            expected = ", ".join(map(str, ("batch", *self.shape(lattice))))
            raise ValueError(
                f"expected a {self.name} field on the lattice {tuple(lattice)}, a tensor of shape "
                f"({expected}), got one of shape {tuple(x.shape)}"
            )

    def check_values(self, x: Tensor) -> None:  # noqa: B027 (any finite number is a value, unless said otherwise)
        """Refuse numbers that are no values of this field.

        Raises:
            ValueError: naming them.
        """

    @abstractmethod
    def start(self, lattice: Lattice, n: int, generator: Generator, dtype: torch.dtype) -> Tensor:
        """n configurations, on the generator's device, from which chains may start: no phase is preferred."""

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """How far two configurations are apart, number by number."""
        return (one - other).abs()

    def observables(self, lattice: Lattice) -> tuple[Observable, ...]:  # noqa: ARG002 (of a field with none)
        """What is recorded of every theory of this kind, and the rows that tables make of it."""
        return ()

    def vectors(self, x: Tensor, lattice: Lattice) -> Vectors:
        """A vector at each site, of which sums over the lattice have a meaning: here the numbers themselves.

        Args:
            x: configurations whose last axes are those of the lattice.
            lattice: side lengths.
        """
        numbers = torch.view_as_real(x).movedim(-1, 1) if x.is_complex() else x
        return numbers.reshape(len(x), -1, *lattice).double()

    def changed(self, x: Tensor, generator: Generator) -> Tensor | None:  # noqa: ARG002 (of a field that moves)
        """The value that each site takes when it changes, for a field with few values a site.

        A change must be as likely as its inverse. None where there is none; `identities` then asks the
        manifold.
        """
        return None

    def identities(self, theory: Theory, x: Tensor, generator: Generator, sites: Tensor) -> Identities:
        """Numbers of each configuration whose averages over exp(−S) are zero: Schwinger–Dyson identities.

        Of a field with few values a site they are those of single sites that change, of one that moves those
        of moves; none where a kind offers neither.

        Args:
            theory: the action.
            x: configurations in float64, or of whole numbers.
            generator: of what is random in them.
            sites: which of the sites, counted through, are asked where each takes an evaluation of S.

        Returns:
            By a title that says the identity, (batch,) or (batch, components).
        """
        changed = self.changed(x, generator)
        if changed is not None:
            return of_changes(self, theory, x, changed, sites)
        return {} if self.manifold is None else of_moves(self, theory, x, generator)

    def __str__(self) -> str:
        return self.name
