"""The XY model: an angle a site, uniform or with a coupling for every bond, in an external field."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from latflow.fields.angles import SITE_ANGLES, binder_cumulant_of_vectors
from latflow.fields.base import FieldKind
from latflow.lattice import summed, volume, wrapped
from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.theories.base import Action, Scaled, Sum, Words, check_finite
from latflow.theories.bonds import Bonded, Couplings, total
from latflow.theories.neighbours import NearestNeighbours
from latflow.theories.vectors import AngleWeight
from latflow.types import Field, Lattice, LogProb

_WIDEST, _FEW_SITES = 4, 4
"""Of tori whose transfer matrix takes seconds at most, and of lattices for quadrature."""

_LARGEST_BETA = 2.0
"""Up to here both converge with few characters, or few angles, a site."""


@dataclass(frozen=True)
class XY(Bonded):
    """The XY model with nearest-neighbour couplings.

        S(θ) = −β Σ_x Σ_μ J_μ(x) cos(θ_x − θ_{x+μ}) − h Σ_x cos θ_x,    target exp(−S), measure Π dθ_x

    β does not multiply h. Every site has a bond in each direction, so that on a side of length 2 two bonds
    join the same two sites. In two dimensions with J = 1 and h = 0 it has the transition of Kosterlitz and
    Thouless at β ≈ 1.1199 (Komura, Okabe, arXiv:1210.6116). Multiples and sums of it are XY models again.

    Args:
        lattice: side lengths (L0, …), one to three of them, each at least 2.
        beta: the inverse temperature β.
        field: the external field h, along θ = 0.
        couplings: J_μ(x), the coupling of the bond from x to x+μ, of shape (d, *lattice), a tensor, an array
            or nested sequences, or how they are drawn, `RandomCouplings`.
            Kept as nested tuples, which compare and hash. None: J = 1.

    Raises:
        ValueError: for a lattice with a side below 2, numbers that are not finite, or couplings of another
            shape.

    Example:
        >>> import torch
        >>> XY((4, 6), beta=0.5)(torch.zeros(1, 4, 6))
        tensor([-24.], dtype=torch.float64)
    """

    lattice: Lattice
    beta: float
    field: float = 0.0
    couplings: Couplings = None
    kind: ClassVar[FieldKind] = SITE_ANGLES

    def __post_init__(self) -> None:
        self._check_bonds()
        check_finite(field=self.field)

    @property
    def z2_symmetric(self) -> bool:
        """True: the reflection θ → −θ leaves S as it is, with a field too."""
        return True

    def __call__(self, x: Field) -> LogProb:
        self.check(x)
        halves = [((x - x.roll(-1, axis)) / 2).sin().square() for axis in range(1, x.ndim)]
        # by cos Δ = 1 − 2 sin²(Δ/2): of the 1, rounding would hide how small differences change
        action = self.beta * (2 * summed(total(self.on_bonds(halves))) - self._aligned)
        return action - self.field * summed(x.cos()) if self.field else action

    def force(self, x: Field) -> Field:
        """−∂S/∂θ_x = −β Σ_μ [J_μ(x) sin(θ_x − θ_{x+μ}) − J_μ(x−μ) sin(θ_{x−μ} − θ_x)] − h sin θ_x."""
        self.check(x)
        axes = range(1, x.ndim)
        currents = self.on_bonds([(x - x.roll(-1, axis)).sin() for axis in axes])
        pairs = zip(axes, currents, strict=True)
        torque = self.beta * total([current.roll(1, axis) - current for axis, current in pairs])
        return torque - self.field * x.sin() if self.field else torque

    def local_field(self, x: Field) -> tuple[Field, Field]:
        """H_x = β Σ_{±μ} J e^{iθ_y} + h, the sum over the neighbours y of x, as real and imaginary part.

        The angle at x enters S as −Re(H_x^* e^{iθ_x}) alone: given the others, its density is that of von
        Mises, exp(|H_x| cos(θ_x − arg H_x)) / (2π I_0(|H_x|)).
        """
        self.check(x)
        return self.field_of(x.cos(), x.sin())

    def field_of(self, cosine: Field, sine: Field) -> tuple[Field, Field]:
        """H_x of vectors of any length, by their components; what is not known is left out as zeros."""
        return self.beta * self.of_neighbours(cosine) + self.field, self.beta * self.of_neighbours(sine)

    def nearest_neighbours(self) -> NearestNeighbours | None:
        """Where all couplings are equal."""
        if self.couplings is not None:
            return None
        return NearestNeighbours(self.lattice, AngleWeight(self.field), self.beta)

    @property
    def established(self) -> tuple[str, ...]:
        """Clusters by Wolff's algorithm, about random axes."""
        return ("xy_wolff",)

    def own_observables(self) -> tuple[Observable, ...]:
        energy = Observable("energy", "⟨E⟩/V", self.energy)
        stiffness = [
            Observable(f"helicity_modulus_{mu}", f"Υ_{mu}", self.helicity_modulus(mu), symbol=f"Υ_{mu}")
            for mu in range(len(self.lattice))
        ]
        vortices = Observable("vortex_density", "vortices a site", vortex_density)
        return (energy, *stiffness, *([vortices] if len(self.lattice) == 2 else []))

    def energy(self, x: Field) -> LogProb:
        """E/V = −V⁻¹ Σ_x Σ_μ J_μ(x) cos(θ_x − θ_{x+μ}) of each configuration; ⟨E⟩ = −∂ log Z/∂β."""
        return -self._bonds(x).flatten(1).sum(1) / volume(self.lattice)

    def helicity_modulus(self, direction: int) -> Callable[[Field], LogProb]:
        """The helicity modulus along a direction μ, as a function of configurations whose average it is.

            Υ_μ = V⁻¹ [ ⟨Σ_x J_μ(x) cos(θ_x − θ_{x+μ})⟩ − β ⟨(Σ_x J_μ(x) sin(θ_x − θ_{x+μ}))²⟩ ]

        Boundary conditions twisted by φ along μ cost β Υ_μ φ²/2 · V/L_μ² in −log Z, to second order in φ. On
        large square lattices βΥ jumps from 2/π to 0 where the vortices unbind.
        """

        def modulus(x: Field) -> LogProb:
            difference = x - x.roll(-1, direction + 1)
            cosine, sine = difference.cos(), difference.sin()
            if self.couplings is not None:
                strength = self._couplings.to(x)[direction]
                cosine, sine = strength * cosine, strength * sine
            current = sine.flatten(1).sum(1)
            return (cosine.flatten(1).sum(1) - self.beta * current**2) / volume(self.lattice)

        return modulus

    @property
    def words(self) -> Words:
        numbers = f"β = {self.beta:.10g}" + (f", h = {self.field:g}" if self.field else "")
        bonds = "cos(θ(x) − θ(x+μ))" if self.couplings is None else "J_μ(x) cos(θ(x) − θ(x+μ))"
        formula = f"S = −β Σₓ Σ_μ {bonds}" + (" − h Σₓ cos θ(x)" if self.field else "")
        return Words("XY model", numbers.replace("-", "−"), formula)

    def known(self) -> dict[str, Measurement]:
        """The ring in closed form, narrow tori by the transfer matrix, a few sites by quadrature."""
        from latflow.theories.xy import exact

        sides, sites, beta = self.lattice, volume(self.lattice), self.beta
        found = {} if self.field else {"magnetization_along": Measurement(0.0, 0.0)}
        if self.solved and beta > 0 and len(sides) == 1:
            correlator = exact.xy_ring_correlator(sites, beta)
            numbers = {
                "log_z": exact.xy_ring_log_z(sites, beta),
                "energy": exact.xy_ring_energy(sites, beta),
                "helicity_modulus_0": exact.xy_ring_helicity(sites, beta),
                "V_magnetization_squared": float(correlator.sum()),
            }
            found |= {name: Measurement(value, 0.0) for name, value in numbers.items()}
        if self.solved and 0 < beta <= _LARGEST_BETA and len(sides) == 2 and min(sides) <= _WIDEST:
            found |= self._of_torus()
        if sites <= _FEW_SITES and np.abs(self.bond_strengths().numpy()).max() <= _LARGEST_BETA:
            with suppress(ValueError):  # of a field that few angles do not resolve
                found |= self._of_quadrature()
        if "energy" in found:
            found["action_density"] = Measurement(beta * found["energy"].value, beta * found["energy"].error)
        return found

    def _of_torus(self) -> dict[str, Measurement]:
        from latflow.theories.xy.exact import xy_torus

        torus = xy_torus(self.lattice, self.beta, tolerance=1e-5)
        along = [mu for mu, side in enumerate(self.lattice) if side == max(self.lattice)]
        numbers = {"log_z": torus.log_z, "energy": torus.energy}
        numbers |= {f"helicity_modulus_{mu}": torus.helicity_modulus for mu in along}
        return {name: Measurement(value, torus.error) for name, value in numbers.items()}

    def _of_quadrature(self) -> dict[str, Measurement]:
        from latflow.theories.xy.exact import xy_averages

        averages, sites = xy_averages(self), volume(self.lattice)
        numbers = {
            "log_z": averages.log_z,
            "action_density": averages.action / sites,
            "magnetization_along": averages.m_along,
            "V_magnetization_squared": sites * averages.m_squared,
            "binder_cumulant": binder_cumulant_of_vectors(averages.m_squared, averages.m_fourth),
        }
        return {name: Measurement(value, 0.0) for name, value in numbers.items()}

    def known_series(self, name: str) -> np.ndarray | None:
        from latflow.theories.xy.exact import xy_ring_correlator

        length = volume(self.lattice)
        if name != "two_point" or len(self.lattice) > 1 or not self.solved:
            return None
        return xy_ring_correlator(length, self.beta)[: length // 2 + 1]

    @property
    def solved(self) -> bool:
        """Whether it is the ferromagnet without a field, of which exact results are known."""
        return self.couplings is None and self.field == 0 and self.beta >= 0

    def __mul__(self, factor: float) -> Action:
        if not isinstance(factor, int | float):
            return NotImplemented
        return replace(self, beta=factor * self.beta, field=factor * self.field)

    __rmul__ = __mul__

    def __add__(self, other: Action) -> Action:
        if not isinstance(other, XY):
            return super().__add__(other)
        if self.lattice != other.lattice:
            raise ValueError(f"expected two actions on one lattice, got {self.lattice} and {other.lattice}")
        field = self.field + other.field
        if self.couplings == other.couplings:
            return replace(self, beta=self.beta + other.beta, field=field)
        return XY(self.lattice, 1.0, field, self.bond_strengths() + other.bond_strengths())

    @cached_property
    def _aligned(self) -> float:
        """Σ J of all bonds."""
        return float(
            len(self.lattice) * volume(self.lattice) if self.couplings is None else self._couplings.sum()
        )

    def _bonds(self, x: Field) -> Tensor:
        """Σ_μ J_μ(x) cos(θ_x − θ_{x+μ}) at each site."""
        cosines = [(x - x.roll(-1, axis)).cos() for axis in range(1, x.ndim)]
        return total(self.on_bonds(cosines))


def xy_of(action: Action) -> XY:
    """The XY model that an action is, also where it is written as a sum or a multiple of such models.

    Raises:
        ValueError: when the action is another theory.
    """
    match action:
        case XY():
            return action
        case Scaled(inner, factor):
            return replace(model := xy_of(inner), beta=factor * model.beta, field=factor * model.field)
        case Sum(first, second):
            found = xy_of(first) + xy_of(second)
            assert isinstance(found, XY)
            return found
        case _:
            raise ValueError(f"expected an XY model, got {action}")


def vortex_density(x: Field) -> LogProb:
    """V⁻¹ Σ_p |v_p| of each configuration, v_p = (2π)⁻¹ Σ_{around p} Δθ with every Δθ in (−π, π].

    v is the vorticity of a plaquette, a whole number whose sum over the torus is zero: vortices and
    antivortices are equally many, and both count.

    Args:
        x: angles on a two-dimensional lattice, (batch, L0, L1).
    """
    time, space = (wrapped(x.roll(-1, axis) - x) for axis in (1, 2))
    around = time + space.roll(-1, 1) - time.roll(-1, 2) - space
    return (around / (2 * math.pi)).round().abs().flatten(1).mean(1)
