"""The Potts model on a periodic lattice: uniform, or with a coupling for every bond, in fields."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from latflow.fields.states import States as Kind
from latflow.lattice import check_even, volume
from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.theories.base import Action, Scaled, Sum, Words
from latflow.theories.bonds import Bonded, Couplings
from latflow.theories.neighbours import NearestNeighbours, nested
from latflow.theories.potts.order import observables
from latflow.theories.vectors import StateWeight
from latflow.types import Lattice, LogProb, States

_MOST_ENUMERATED = 2**18
"""Configurations that are summed over in less than a second."""
_MOST_TRANSFERRED = 4 * 10**8
"""The squared number of states of a row times the number of rows: the transfer matrix then takes seconds."""


@dataclass(frozen=True)
class Potts(Bonded):
    """The Potts model with q states a site and nearest-neighbour couplings.

        S(s) = −β Σ_x Σ_μ J_μ(x) δ(s_x, s_{x+μ}) − Σ_x h(s_x),    s_x = 0 … q−1,    target exp(−S)

    With J = 1 the transition of the square lattice lies at β = ln(1 + √q). Every site has a bond in each
    direction, so that on a side of length 2 two bonds join the same two sites. States are whole numbers, and
    the action is in float64. For q = 2 it is the Ising model of the spins 1 − 2 s_x at K = β/2, with S =
    S_Ising − ½ β Σ J. Source: Wu, The Potts model, Reviews of Modern Physics 54 (1982) 235.

    Args:
        lattice: side lengths (L0, …), one to three of them, each at least 2.
        q: how many states, at least 2.
        beta: the inverse temperature β, of either sign.
        field: h, the field of each of the q states, or a number for state 0 alone; β does not multiply it.
        couplings: J_μ(x), the coupling of the bond from x to x+μ, of shape (d, *lattice), a tensor, an array
            or nested sequences, or how they are drawn, `RandomCouplings`.
            Kept as nested tuples, which compare and hash. None: J = 1.

    Raises:
        ValueError: for a side below 2, fewer than two states, numbers that are not finite, or a field or
            couplings of another shape.

    Example:
        >>> Potts((4, 6), q=3, beta=0.5)(torch.zeros(1, 4, 6, dtype=torch.int64))
        tensor([-24.], dtype=torch.float64)
    """

    lattice: Lattice
    q: Annotated[int, Ge(2)]
    beta: float
    field: float | Sequence[float] = 0.0
    couplings: Couplings = None

    def __post_init__(self) -> None:
        self._check_bonds()
        if not isinstance(self.q, int) or isinstance(self.q, bool) or self.q < 2:
            raise ValueError(f"expected a whole number of at least 2 states, got q = {self.q!r}")
        self._check_field()

    def _check_field(self) -> None:
        values = np.asarray(self.field, dtype=np.float64)
        if values.shape not in ((), (self.q,)) or not np.isfinite(values).all():
            raise ValueError(
                f"expected a finite field: one number for state 0, or {self.q} numbers, got {self.field!r}"
            )
        object.__setattr__(self, "field", nested(values.tolist()))

    @cached_property
    def kind(self) -> Kind:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Kind(self.q)

    @property
    def fields(self) -> tuple[float, ...]:
        """h of each state."""
        return tuple(self.field) if isinstance(self.field, Sequence) else (self.field, *[0.0] * (self.q - 1))

    @property
    def symmetric(self) -> bool:
        """Whether all states are alike: S does not change when they are renamed."""
        return len(set(self.fields)) == 1

    def __call__(self, x: States) -> LogProb:
        self.check(x)
        equal = torch.stack([(x == x.roll(-1, axis)).double() for axis in range(1, x.ndim)], 1)
        if self.couplings is not None:
            equal = self._couplings.to(x.device) * equal
        action = -self.beta * equal.flatten(1).sum(1)
        return action - self._fields.to(x.device)[x].flatten(1).sum(1) if any(self.fields) else action

    def local_fields(self, x: States) -> Float[Tensor, "batch q *lattice"]:
        """H_a(x) = β Σ_μ [J_μ(x) δ(a, s_{x+μ}) + J_μ(x−μ) δ(a, s_{x−μ})] + h(a), in float64.

        Given all other sites, s_x = a has a probability proportional to exp(H_a(x)).
        """
        self.check(x)
        is_state = functional.one_hot(x, self.q).movedim(-1, 1).double()
        total = torch.zeros_like(is_state)
        for mu, strength in enumerate(self.bond_strengths().to(x.device)):
            total += strength * is_state.roll(-1, mu + 2) + (strength * is_state).roll(1, mu + 2)
        return total + self._fields.to(x.device).view(-1, *[1] * (x.ndim - 1))

    def nearest_neighbours(self) -> NearestNeighbours | None:
        """Where all couplings are equal."""
        if self.couplings is not None:
            return None
        return NearestNeighbours(self.lattice, StateWeight(self.fields), self.beta)

    @property
    def established(self) -> tuple[str, ...]:
        """Clusters where no coupling is negative, else the heat bath, which needs even sides."""
        if bool((self.bond_strengths() >= 0).all()):
            return ("potts_swendsen_wang",)
        try:
            check_even(self.lattice)
        except ValueError:
            return ()
        return ("potts_heat_bath",)

    @property
    def words(self) -> Words:
        field = ""
        if any(self.fields):
            shown = self.fields if isinstance(self.field, Sequence) else self.fields[:1]
            field = f", h = {', '.join(f'{h:g}' for h in shown)}"
        bonds = "δ(s(x), s(x+μ))" if self.couplings is None else "J_μ(x) δ(s(x), s(x+μ))"
        formula = f"S = −β Σₓ Σ_μ {bonds}" + (" − Σₓ h(s(x))" if field else "")
        numbers = f"q = {self.q}, β = {self.beta:.10g}{field}"
        return Words("Potts model", numbers.replace("-", "−"), formula)

    def own_observables(self) -> tuple[Observable, ...]:
        return observables(self.lattice, self.q, symmetric=self.symmetric)

    def known(self) -> dict[str, Measurement]:
        """The transfer matrix where rows are narrow; small lattices by the sum over all configurations."""
        from latflow.theories.potts import exact

        sites, numbers = volume(self.lattice), {}
        if self.symmetric:
            numbers = {f"fraction_{state}": 1 / self.q for state in range(self.q)}
        found = None
        if self.q**sites <= _MOST_ENUMERATED:
            found = exact.potts_enumerated(self)
            numbers |= {f"fraction_{state}": share for state, share in enumerate(found.fractions)}
            numbers |= {
                "order_parameter": found.order,
                "susceptibility": sites * (found.order_max_squared - found.order**2),
                "binder_cumulant": exact.order_cumulant(found.order_squared, found.order_fourth, self.q),
            }
        elif self.couplings is None and self._transferred <= _MOST_TRANSFERRED:
            with suppress(ValueError):  # of frustration at very low temperatures
                found = exact.potts_torus(self.lattice, self.q, self.beta, self.fields)
        if found is not None:
            numbers |= {
                "log_z": found.log_z,
                "free_energy_density": -found.log_z / sites,
                "entropy": found.log_z + found.action,
                "action_density": found.action / sites,
                "specific_heat": found.action_variance / sites,
                "energy": found.energy,
            }
            if found.order_squared is not None:
                numbers["V_order_squared"] = sites * found.order_squared
        return {name: Measurement(value, 0.0) for name, value in numbers.items()}

    @property
    def _transferred(self) -> int:
        length = max(self.lattice)
        return self.q ** (2 * volume(self.lattice) // length) * length

    def known_series(self, name: str) -> np.ndarray | None:
        """The correlator of a uniform ring."""
        from latflow.theories.potts import exact

        uniform = self.couplings is None and self.symmetric
        if name != "two_point" or len(self.lattice) > 1 or not uniform:
            return None
        return exact.potts_ring_two_point(volume(self.lattice), self.q, self.beta)

    @cached_property
    def _fields(self) -> Tensor:
        return torch.tensor(self.fields, dtype=torch.float64)


def potts_of(action: Action) -> Potts:
    """The Potts model that an action is, also where it is written as a sum or a multiple of such models.

    Raises:
        ValueError: when the action is another theory.
    """
    match action:
        case Potts():
            return action
        case Scaled(inner, factor):
            model = potts_of(inner)
            return replace(model, beta=factor * model.beta, field=tuple(factor * h for h in model.fields))
        case Sum(first, second):
            a, b = potts_of(first), potts_of(second)
            couplings = a.bond_strengths() + b.bond_strengths()
            fields = tuple(h + k for h, k in zip(a.fields, b.fields, strict=True))
            return Potts(a.lattice, a.q, beta=1.0, field=fields, couplings=couplings)
        case _:
            raise ValueError(f"expected a Potts model, got {action}")
