"""The action S: a map from a batch of fields to a batch of numbers, whose target is exp(−S)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from latflow.types import Field, Lattice, LogProb


class Action(ABC):
    """An action. Actions add and scale: `a + b`, `2.0 * a`."""

    lattice: Lattice
    kind: ClassVar[str]
    """What the field is: "scalar" (a number a site), "gauge" (an angle a link), "spin" (±1 a site)."""

    @abstractmethod
    def __call__(self, x: Field) -> LogProb:
        """S(x), one number for each configuration."""

    @property
    def field_shape(self) -> tuple[int, ...]:
        """The shape of one configuration: one number a site, unless the kind of field says otherwise."""
        return self.lattice

    @property
    def z2_symmetric(self) -> bool:
        """Whether S(−x) = S(x) holds for every x."""
        return False

    def force(self, x: Field) -> Field:
        """F(x) = −∂S/∂x, by automatic differentiation unless the theory has it as short in closed form."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(leaf).sum(), leaf)
        return -gradient

    def __add__(self, other: "Action") -> "Action":
        if not isinstance(other, Action):
            return NotImplemented
        return Sum(self, other)

    def __mul__(self, factor: float) -> "Action":
        if not isinstance(factor, int | float):
            return NotImplemented
        return Scaled(self, float(factor))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Sum(Action):
    """S = S_a + S_b, two theories on one lattice.

    Raises:
        ValueError: when the lattices or the kinds of field differ.
    """

    first: Action
    second: Action

    def __post_init__(self) -> None:
        theirs = (self.second.kind, self.second.lattice)
        if (self.kind, self.lattice) != theirs:
            mine = (self.kind, self.lattice)
            raise ValueError(f"expected two actions of one field on one lattice, got {mine} and {theirs}")

    @property
    def lattice(self) -> Lattice:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.first.lattice

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.first.kind

    @property
    def field_shape(self) -> tuple[int, ...]:
        return self.first.field_shape

    @property
    def z2_symmetric(self) -> bool:
        return self.first.z2_symmetric and self.second.z2_symmetric

    def __call__(self, x: Field) -> LogProb:
        return self.first(x) + self.second(x)

    def force(self, x: Field) -> Field:
        return self.first.force(x) + self.second.force(x)


@dataclass(frozen=True)
class Scaled(Action):
    """S = factor · S_inner, for example an inverse temperature."""

    inner: Action
    factor: float

    @property
    def lattice(self) -> Lattice:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.lattice

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kind

    @property
    def field_shape(self) -> tuple[int, ...]:
        return self.inner.field_shape

    @property
    def z2_symmetric(self) -> bool:
        return self.inner.z2_symmetric

    def __call__(self, x: Field) -> LogProb:
        return self.factor * self.inner(x)

    def force(self, x: Field) -> Field:
        return self.factor * self.inner.force(x)
