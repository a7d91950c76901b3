"""The Ising model on a periodic lattice, uniform or with a coupling for every bond, in an external field."""

from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latflow.actions.base import Action, Scaled, Sum
from latflow.errors import LatflowError
from latflow.lattice import checked_lattice
from latflow.types import Lattice, LogProb, Spins


@dataclass(frozen=True)
class Ising(Action):
    """The Ising model with nearest-neighbour couplings.

        S(s) = −β Σ_x Σ_μ J_μ(x) s_x s_{x+μ} − h Σ_x s_x,    s_x = ±1,    target exp(−S)

    With J = 1 the coupling is K = β; β does not multiply h. Every site has a bond in each direction, so that
    on a side of length 2 two bonds join the same two sites. Spins are floating-point numbers ±1, as
    estimators and samplers have them; with J = 1 the sum over bonds is a whole number, and exact.

    Args:
        lattice: side lengths (L0, …), one to three of them, each at least 2.
        beta: the inverse temperature β.
        field: the external field h.
        couplings: J_μ(x), the coupling of the bond from x to x+μ, of shape (d, *lattice), a tensor, an array
            or nested sequences: a spin glass. Kept as nested tuples, which compare and hash. None: J = 1.

    Raises:
        ValueError: for a lattice with a side below 2, or couplings of another shape or not finite.

    Example:
        >>> Ising((4, 6), beta=0.5)(torch.ones(1, 4, 6))
        tensor([-24.])
    """

    lattice: Lattice
    beta: float
    field: float = 0.0
    couplings: Any = None
    kind: ClassVar[str] = "spin"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lattice", checked_lattice(self.lattice))
        if min(self.lattice) < 2:
            raise ValueError(f"expected sides of at least 2 for spins, got {self.lattice}")
        if self.couplings is not None:
            values = np.asarray(self.couplings, dtype=np.float64)
            shape = (len(self.lattice), *self.lattice)
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"expected finite couplings of shape {shape}, got shape {values.shape}")
            object.__setattr__(self, "couplings", _nested(values.tolist()))

    @property
    def z2_symmetric(self) -> bool:
        """Whether there is no external field."""
        return self.field == 0

    def __call__(self, x: Spins) -> LogProb:
        self._check(x)
        bonds = [x * x.roll(-1, axis) for axis in range(1, x.ndim)]
        if self.couplings is not None:
            bonds = [j * bond for j, bond in zip(self._couplings_like(x), bonds, strict=True)]
        action = -self.beta * _sum(bonds).flatten(1).sum(1)
        return action - self.field * x.flatten(1).sum(1) if self.field else action

    def local_field(self, x: Spins) -> Spins:
        """H_x = β Σ_μ [J_μ(x) s_{x+μ} + J_μ(x−μ) s_{x−μ}] + h: a flip of s_x changes S by 2 s_x H_x."""
        self._check(x)
        axes = range(1, x.ndim)
        if self.couplings is None:
            total = _sum([x.roll(-1, axis) + x.roll(1, axis) for axis in axes])
        else:
            pairs = list(zip(self._couplings_like(x), axes, strict=True))
            total = _sum([j * x.roll(-1, axis) + (j * x).roll(1, axis) for j, axis in pairs])
        return self.beta * total + self.field

    def force(self, x: Spins) -> Spins:  # noqa: ARG002 (the contract of every action)
        """None: spins are discrete.

        Raises:
            LatflowError: always, naming what needs no force.
        """
        raise LatflowError(
            "spins are discrete and have no force: train with the estimator score, reinforce or "
            "reinforce_leave_one_out, and sample with SingleSpin, SwendsenWang, Wolff or "
            "IndependenceMetropolis"
        )

    def bond_strengths(self) -> Float[Tensor, "directions *lattice"]:
        """β J_μ(x) of every bond, float64."""
        if self.couplings is None:
            return torch.full((len(self.lattice), *self.lattice), float(self.beta), dtype=torch.float64)
        return self.beta * self._couplings

    def _couplings_like(self, x: Spins) -> Float[Tensor, "directions *lattice"]:
        return self._couplings.to(x)

    @cached_property
    def _couplings(self) -> Tensor:
        return torch.tensor(self.couplings, dtype=torch.float64)

    def _check(self, x: Spins) -> None:
        if x.shape[1:] != self.lattice:
            raise ValueError(f"expected spins on the lattice {self.lattice}, got {tuple(x.shape[1:])}")


def ising_of(action: Action) -> Ising:
    """The Ising model that an action is, also where it is written as a sum or a multiple of such models.

    Raises:
        ValueError: when the action is another theory.
    """
    match action:
        case Ising():
            return action
        case Scaled(inner, factor):
            model = ising_of(inner)
            return replace(model, beta=factor * model.beta, field=factor * model.field)
        case Sum(first, second):
            a, b = ising_of(first), ising_of(second)
            couplings = a.bond_strengths() + b.bond_strengths()
            return Ising(a.lattice, beta=1.0, field=a.field + b.field, couplings=couplings)
        case _:
            raise ValueError(f"expected an Ising model, got {action}")


def _nested(values: Any) -> Any:
    """Lists as tuples, at every depth."""
    return tuple(_nested(value) for value in values) if isinstance(values, list) else values


def _sum(fields: list[Tensor]) -> Tensor:
    return reduce(add, fields)
