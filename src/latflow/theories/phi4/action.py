"""Scalar φ⁴ theory on a periodic lattice of one to three dimensions, in two parametrisations."""

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import ClassVar

import numpy as np
from torch import Tensor

from latflow.fields import SCALAR, FieldKind
from latflow.lattice import checked_lattice, summed, volume
from latflow.measurement import Measurement
from latflow.theories.base import Action, Words, check_finite
from latflow.theories.growth import Growth
from latflow.theories.neighbours import NearestNeighbours
from latflow.theories.phi4 import exact
from latflow.theories.sites import LineWeight
from latflow.types import Field, Lattice, LogProb


def _forward_neighbours(x: Field) -> Tensor:
    """Σ_μ x(n+μ)."""
    return _sum(x.roll(-1, axis) for axis in range(1, x.ndim))


def _neighbours(x: Field) -> Tensor:
    """Σ_μ [x(n+μ) + x(n−μ)]."""
    return _sum(x.roll(shift, axis) for axis in range(1, x.ndim) for shift in (-1, 1))


def _sum(fields: Iterable[Tensor]) -> Tensor:
    return reduce(add, fields)


@dataclass(frozen=True)
class _ScalarTheory(Action):
    """What the two parametrisations share: a real field, even under φ → −φ."""

    lattice: Lattice
    kind: ClassVar[FieldKind] = SCALAR

    def __post_init__(self) -> None:
        object.__setattr__(self, "lattice", checked_lattice(self.lattice))

    @property
    def z2_symmetric(self) -> bool:
        return True


@dataclass(frozen=True)
class Phi4(_ScalarTheory):
    """φ⁴ theory by mass and coupling.

        S(φ) = Σ_n [ φ(−Δ)φ + m² φ² + λ φ⁴ ] = Σ_n [ (2d + m²) φ_n² + λ φ_n⁴ − 2 Σ_μ φ_n φ_{n+μ} ]

    There is no factor ½ in front of the kinetic term. Source: Białas, Korcyl, Stebel, Gradient estimators for
    normalising flows, eq. 39 (its mass term, misprinted there, is m² φ²).

    Args:
        lattice: side lengths (L0, …), one to three of them.
        m2: the squared mass m², negative below the tree-level transition.
        lam: the coupling λ.

    Raises:
        ValueError: for a number that is not finite; from `check_proper`, which samplers and training call,
            unless λ > 0, or λ = 0 and m² > 0.

    Example:
        >>> import torch
        >>> Phi4((4, 4), m2=1.0, lam=0.0)(torch.ones(1, 4, 4))
        tensor([16.], dtype=torch.float64)
    """

    m2: float
    lam: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite(m2=self.m2, lam=self.lam)

    def growth(self) -> Growth:
        return Growth(self.lam, self.m2, 1.0)

    def __call__(self, x: Field) -> LogProb:
        self.check(x)
        quadratic = 2 * len(self.lattice) + self.m2
        squared = x * x
        density = squared * (quadratic + self.lam * squared) - 2 * x * _forward_neighbours(x)
        return summed(density)

    def force(self, x: Field) -> Field:
        """−∂S/∂φ_n = −2(2d + m²) φ_n − 4λ φ_n³ + 2 Σ_{±μ} φ_{n±μ}."""
        quadratic = 2 * len(self.lattice) + self.m2
        return 2 * _neighbours(x) - x * (2 * quadratic + 4 * self.lam * x * x)

    def nearest_neighbours(self) -> NearestNeighbours:
        dimensions = len(self.lattice)
        site = LineWeight.of({2: 2 * dimensions + self.m2, 4: self.lam}, neighbours=4.0 * dimensions)
        return NearestNeighbours(self.lattice, site, coupling=2.0)

    @property
    def words(self) -> Words:
        numbers = f"m² = {self.m2:g}, λ = {self.lam:g}".replace("-", "−")
        return Words("φ⁴ theory", numbers, "S = Σₓ [ φ(−Δ)φ + m²φ² + λφ⁴ ]")

    def known(self) -> dict[str, Measurement]:
        """The free field in closed form; in one dimension log Z and ⟨φ²⟩ by the transfer matrix."""
        lattice, m2, lam = self.lattice, self.m2, self.lam
        found: dict[str, Measurement] = {}
        if lam == 0 and m2 > 0:
            numbers = {
                "log_z": exact.free_field_log_z(lattice, m2),
                "phi_squared": exact.free_field_phi_squared(lattice, m2),
                "V_magnetization_squared": exact.free_field_zero_mode(m2),
                "action_density": 0.5,
            }
            found |= {name: Measurement(value, 0.0) for name, value in numbers.items()}
        elif len(lattice) == 1 and lam > 0:
            with suppress(ValueError):  # of couplings that its quadrature does not resolve
                found["log_z"] = Measurement(*exact.phi4_log_z(lattice, m2, lam))
                found["phi_squared"] = Measurement(*exact.phi4_phi_squared(lattice, m2, lam))
        return found

    def known_series(self, name: str) -> np.ndarray | None:
        if name == "two_point" and self.lam == 0 and self.m2 > 0:
            return exact.free_field_two_point(self.lattice, self.m2)
        return None

    def to_hopping(self) -> "tuple[HoppingPhi4, float]":
        """The same theory by hopping parameter, and the factor c with φ_hopping = c φ.

        m² + 2d = 2(1−2λ′)/β and λ = 4λ′/β² are solved for (β, λ′); the actions differ by the constant λ′V.

        Raises:
            ValueError: when no β > 0 solves them (m² + 2d ≤ 0 at λ = 0).
        """
        mass, lam = self.m2 + 2 * len(self.lattice), self.lam
        # λ' = λβ²/4 turns the first relation into λβ² + mass·β − 2 = 0
        root = math.sqrt(mass * mass + 8 * lam) if mass * mass + 8 * lam >= 0 else math.nan
        beta = 4 / (mass + root) if mass + root > 0 else math.nan
        if not math.isfinite(beta):
            raise ValueError(
                f"expected lam > 0, or m2 + 2d > 0 at lam = 0, for a hopping parameter to exist, "
                f"got m2 = {self.m2}, lam = {self.lam}"
            )
        return HoppingPhi4(self.lattice, beta=beta, lam=lam * beta**2 / 4), math.sqrt(2 / beta)


@dataclass(frozen=True)
class HoppingPhi4(_ScalarTheory):
    """φ⁴ theory by hopping parameter.

        S(φ) = Σ_n [ −β Σ_μ φ_n φ_{n+μ} + φ_n² + λ (φ_n² − 1)² ]

    Source: Albandea, Del Debbio, Hernández, Kenway, Marsh Rossney, Ramos, Learning trivializing flows,
    arXiv:2302.08408.

    Args:
        lattice: side lengths (L0, …), one to three of them.
        beta: the hopping parameter β.
        lam: the coupling λ.

    Raises:
        ValueError: for a number that is not finite; from `check_proper`, which samplers and training call,
            unless λ > 0, or λ = 0 and the quadratic form is positive: |β| d < 1 on even sides.
    """

    beta: float
    lam: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite(beta=self.beta, lam=self.lam)

    def growth(self) -> Growth:
        """By −β φφ′ = ½β [(φ − φ′)² − φ² − φ′²]."""
        return Growth(self.lam, 1 - 2 * self.lam - len(self.lattice) * self.beta, self.beta / 2)

    def __call__(self, x: Field) -> LogProb:
        self.check(x)
        squared = x * x
        density = squared + self.lam * (squared - 1) ** 2 - self.beta * x * _forward_neighbours(x)
        return summed(density)

    def force(self, x: Field) -> Field:
        """−∂S/∂φ_n = β Σ_{±μ} φ_{n±μ} − 2 φ_n − 4λ φ_n (φ_n² − 1)."""
        return self.beta * _neighbours(x) - x * (2 + 4 * self.lam * (x * x - 1))

    def nearest_neighbours(self) -> NearestNeighbours:
        powers = {0: self.lam, 2: 1 - 2 * self.lam, 4: self.lam}
        site = LineWeight.of(powers, neighbours=2 * len(self.lattice) * self.beta)
        return NearestNeighbours(self.lattice, site, self.beta)

    @property
    def words(self) -> Words:
        numbers = f"β = {self.beta:g}, λ = {self.lam:g}".replace("-", "−")
        return Words("φ⁴ theory", numbers, "S = Σₓ [ −β Σ_μ φ(x)φ(x+μ) + φ² + λ(φ²−1)² ]")

    def known(self) -> dict[str, Measurement]:
        """What is known by mass and coupling: φ = φ₁/c, the measures differ by c^V, the actions by λV."""
        if self.beta <= 0:
            return {}
        same, c = self.to_phi4()
        found = dict(same.known())
        for name in {"phi_squared", "V_magnetization_squared"} & set(found):
            found[name] = Measurement(found[name].value / c**2, found[name].error / c**2)
        shifts = {"log_z": -volume(self.lattice) * math.log(c) - self.constant, "action_density": self.lam}
        for name in set(shifts) & set(found):
            found[name] = Measurement(found[name].value + shifts[name], found[name].error)
        return found

    def known_series(self, name: str) -> np.ndarray | None:
        if self.beta <= 0:
            return None
        same, c = self.to_phi4()
        series = same.known_series(name)
        return None if series is None else series / c**2

    def to_phi4(self) -> tuple[Phi4, float]:
        """The same theory by mass and coupling, and the factor c with φ_mass = c φ.

        c = √(β/2), m² = 2(1−2λ)/β − 2d, λ_mass = 4λ/β²; S_hopping(φ) = S_mass(cφ) + λV.

        Raises:
            ValueError: unless β > 0.
        """
        if self.beta <= 0:
            raise ValueError(f"expected beta > 0, got {self.beta}")
        m2 = 2 * (1 - 2 * self.lam) / self.beta - 2 * len(self.lattice)
        return Phi4(self.lattice, m2=m2, lam=4 * self.lam / self.beta**2), math.sqrt(self.beta / 2)

    @property
    def constant(self) -> float:
        """λV, by which S exceeds the action of `to_phi4` at the same field."""
        return self.lam * volume(self.lattice)
