"""The Ising model on a periodic lattice, uniform or with a coupling for every bond, in an external field."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from latflow.fields import SPINS, FieldKind
from latflow.formulas import binder_cumulant, susceptibility
from latflow.lattice import summed, volume
from latflow.measurement import Measurement
from latflow.theories.base import Action, Scaled, Sum, Words, check_finite
from latflow.theories.bonds import Bonded, Couplings, total
from latflow.theories.neighbours import BondedSpins, CoupledSites, NearestNeighbours, nested
from latflow.theories.sites import SpinWeight
from latflow.types import Lattice, LogProb, Spins

_MOST_SITES_ENUMERATED = 16


@dataclass(frozen=True)
class Ising(Bonded):
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
            or nested sequences: a spin glass, or how they are drawn, `RandomCouplings`.
            Kept as nested tuples, which compare and hash. None: J = 1.

    Raises:
        ValueError: for a lattice with a side below 2, numbers that are not finite, or couplings of another
            shape.

    Example:
        >>> import torch
        >>> Ising((4, 6), beta=0.5)(torch.ones(1, 4, 6))
        tensor([-24.], dtype=torch.float64)
    """

    lattice: Lattice
    beta: float
    field: float = 0.0
    couplings: Couplings = None
    kind: ClassVar[FieldKind] = SPINS

    def __post_init__(self) -> None:
        self._check_bonds()
        check_finite(field=self.field)

    @property
    def z2_symmetric(self) -> bool:
        """Whether there is no external field."""
        return self.field == 0

    def __call__(self, x: Spins) -> LogProb:
        self.check(x)
        bonds = self.on_bonds([x * x.roll(-1, axis) for axis in range(1, x.ndim)])
        action = -self.beta * summed(total(bonds))
        return action - self.field * summed(x) if self.field else action

    def local_field(self, x: Spins) -> Spins:
        """H_x = β Σ_μ [J_μ(x) s_{x+μ} + J_μ(x−μ) s_{x−μ}] + h: a flip of s_x changes S by 2 s_x H_x."""
        self.check(x)
        return self.beta * self.of_neighbours(x) + self.field

    def nearest_neighbours(self) -> NearestNeighbours | None:
        """Where all couplings are equal."""
        if self.couplings is not None:
            return None
        return NearestNeighbours(self.lattice, SpinWeight(self.field), self.beta)

    def coupled_sites(self) -> CoupledSites:
        """Whatever the couplings are."""
        uniform = self.nearest_neighbours()
        if uniform is not None:
            return uniform
        return BondedSpins(self.lattice, SpinWeight(self.field), nested(self.bond_strengths().tolist()))

    @property
    def established(self) -> tuple[str, ...]:
        """Clusters by Wolff's algorithm; the heat bath where couplings are frustrated, and sides even."""
        return ("heat_bath",) if self.frustrated and not any(n % 2 for n in self.lattice) else ("wolff",)

    @property
    def frustrated(self) -> bool:
        """Whether around some plaquette the product of the four J is negative, so that no spins suit all."""
        signs, axes = self.bond_strengths().sign(), range(len(self.lattice))
        return any(
            bool((signs[a] * signs[b].roll(-1, a) * signs[a].roll(-1, b) * signs[b] < 0).any())
            for a, b in combinations(axes, 2)
        )

    @property
    def words(self) -> Words:
        numbers = f"β = {self.beta:.10g}" + (f", h = {self.field:g}" if self.field else "")
        bonds = "s(x)s(x+μ)" if self.couplings is None else "J_μ(x)s(x)s(x+μ)"
        formula = f"S = −β Σₓ Σ_μ {bonds}" + (" − h Σₓ s(x)" if self.field else "")
        return Words("Ising model", numbers.replace("-", "−"), formula)

    @property
    def _narrow(self) -> bool:
        """Whether transfer matrices are small."""
        from latflow.theories.ising.rows import LONGEST_ROW

        return len(self.lattice) == 1 or (len(self.lattice) == 2 and min(self.lattice) <= LONGEST_ROW)

    @cached_property
    def _uniform(self) -> bool:
        """Whether it is the ferromagnet that is solved."""
        return self.couplings is None and self.beta > 0 and len(self.lattice) <= 2

    def known(self) -> dict[str, Measurement]:
        """Kaufman's solution and transfer matrices; small lattices by the sum over all configurations."""
        from latflow.theories.ising import exact

        sites, numbers = volume(self.lattice), {}
        if sites <= _MOST_SITES_ENUMERATED:
            found = exact.spins_enumerated(self)
            numbers = {
                **_of_energies(sites, found.log_z, found.action, found.action_variance),
                **_of_moments(sites, found.m, found.m_abs, found.m_squared, found.m_fourth),
            }
        elif self._uniform and self.field == 0:
            log_z = exact.ising_log_z(self.lattice, self.beta)
            numbers = {
                "log_z": log_z,
                "free_energy_density": -log_z / sites,
                "entropy": exact.ising_entropy(self.lattice, self.beta),
                "action_density": self.beta * exact.ising_energy(self.lattice, self.beta),
                "specific_heat": exact.ising_specific_heat(self.lattice, self.beta),
            }
        elif self._narrow:
            numbers = _of_energies(sites, *exact.ising_by_rows(self))
        if self._uniform and self.field == 0:
            numbers["energy"] = exact.ising_energy(self.lattice, self.beta)
        if sites > _MOST_SITES_ENUMERATED and (distribution := self._magnetization) is not None:
            m, p = distribution
            numbers |= _of_moments(sites, *(float(values @ p) for values in (m, abs(m), m**2, m**4)))
        return {name: Measurement(value, 0.0) for name, value in numbers.items()}

    def probability(self, name: str, values: np.ndarray) -> np.ndarray | None:
        if name != "magnetization" or self._magnetization is None:
            return None
        found = self._magnetization
        index = np.rint((1 - np.asarray(values)) * volume(self.lattice) / 2).astype(int)
        last = len(found.probabilities) - 1
        return np.where((index < 0) | (index > last), 0.0, found.probabilities[index.clip(0, last)])

    @cached_property
    def _magnetization(self) -> Any:
        """The distribution of M on a ring or a torus narrow enough for the transfer matrix."""
        from latflow.theories.ising import exact

        if not self._uniform or not self._narrow:
            return None
        return exact.ising_magnetization(self.lattice, self.beta, self.field)


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


def _of_energies(sites: int, log_z: float, action: float, variance: float) -> dict[str, float]:
    """What follows from log Z, ⟨S⟩ and ⟨S²⟩ − ⟨S⟩²."""
    return {
        "log_z": log_z,
        "free_energy_density": -log_z / sites,
        "entropy": log_z + action,
        "action_density": action / sites,
        "specific_heat": variance / sites,
    }


def _of_moments(sites: int, *moments: float) -> dict[str, float]:
    """What follows from ⟨M⟩, ⟨|M|⟩, ⟨M²⟩ and ⟨M⁴⟩."""
    m, m_abs, m_squared, m_fourth = moments
    return {
        "magnetization": m,
        "abs_magnetization": m_abs,
        "V_magnetization_squared": sites * m_squared,
        "susceptibility": susceptibility(m_squared, m_abs, sites),
        "binder_cumulant": binder_cumulant(m_squared, m_fourth),
    }
