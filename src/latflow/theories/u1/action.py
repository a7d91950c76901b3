"""U(1) gauge theory on a periodic two-dimensional lattice, by the angles of its links."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from latflow.fields import LINKS, FieldKind
from latflow.fields.gauge import SECTORS, loops_of_potential
from latflow.lattice import checked_plane, summed, volume
from latflow.links import plaquette_angles
from latflow.measurement import Measurement
from latflow.theories.base import Action, Evaluation, Words, check_finite
from latflow.theories.u1 import exact
from latflow.theories.u1.draws import PureGauge
from latflow.types import Lattice, Links, LogProb

_LEAST_LOOP = 1e-12
"""Below, a Wilson loop is known to a few digits only, and its logarithm to fewer."""


@dataclass(frozen=True)
class LinkTheory(Action):
    """What theories of U(1) links share: two dimensions, angles as field, charge conjugation."""

    lattice: Lattice
    kind: ClassVar[FieldKind] = LINKS

    def __post_init__(self) -> None:
        object.__setattr__(self, "lattice", checked_plane(self.lattice))

    @property
    def z2_symmetric(self) -> bool:
        """True: charge conjugation θ → −θ leaves S as it is."""
        return True


@dataclass(frozen=True)
class U1Gauge(LinkTheory):
    """U(1) gauge theory with Wilson's action.

        S(θ) = −β Σ_x cos P(x),   P(x) = θ_0(x) + θ_1(x+0̂) − θ_0(x+1̂) − θ_1(x)

    Fields are link angles (batch, 2, L0, L1), direction first, direction 0 time; every angle is taken modulo
    2π. Source: Wilson, Confinement of quarks, Physical Review D 10 (1974) 2445.

    Args:
        lattice: the two side lengths (L0, L1), each at least 2.
        beta: the inverse coupling β.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 2, and for a β that is not
            finite.

    Example:
        >>> import torch
        >>> U1Gauge((4, 6), beta=2.0)(torch.zeros(1, 2, 4, 6))
        tensor([-48.], dtype=torch.float64)
    """

    beta: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite(beta=self.beta)

    @property
    def words(self) -> Words:
        return Words("U(1) gauge theory", f"β = {self.beta:g}".replace("-", "−"), "S = −β Σₓ cos P(x)")

    def holonomy_density(self, links: Links, angles: Tensor) -> Tensor:
        """Uniform."""
        return links.new_ones(len(links), len(angles), len(angles))

    def known(self) -> dict[str, Measurement]:
        """The exact solution; no loop that winds around the torus has an expectation value."""
        if self.beta < 0:
            return {}
        lattice, beta, sites = self.lattice, self.beta, volume(self.lattice)
        plaquette, squared = exact.u1_plaquette(lattice, beta), exact.u1_charge_squared(lattice, beta)
        single = exact.u1_charge_distribution(lattice, beta, np.array(SECTORS))
        numbers = {
            "log_z": exact.u1_log_z(lattice, beta) + 2 * sites * math.log(2 * math.pi),
            "plaquette": plaquette,
            "charge_squared": squared,
            "topological_susceptibility": squared / sites,
            **{f"P_charge_{n}": float(p) * (2 if n else 1) for n, p in zip(SECTORS, single, strict=True)},
            "sine_susceptibility": exact.u1_sine_charge_squared(lattice, beta) / sites,
            "polyakov": 0.0,
            **self._potential(),
            "action_density": -beta * plaquette,
        }
        return {name: Measurement(value, 0.0) for name, value in numbers.items()}

    def _potential(self, theta: float = 0.0) -> dict[str, float]:
        """V(r) and its differences, where loops are not so small that rounding decides."""
        extents, distances = loops_of_potential(self.lattice)
        found: dict[int, float] = {}
        for r in distances:
            areas = (r * extent for extent in extents)
            loops = [exact.u1_wilson_loop(self.lattice, self.beta, area, theta) for area in areas]
            if min(loops) > _LEAST_LOOP:
                found[r] = math.log(loops[0] / loops[1])
        tensions = {f"string_tension_{r}": found[r + 1] - v for r, v in found.items() if r + 1 in found}
        return {f"potential_{r}": v for r, v in found.items()} | tensions

    def known_at_theta(self, theta: float) -> dict[str, Measurement]:
        """The exact solution with the weight exp(iθQ); of ⟨Q⟩ the imaginary part.

        Args:
            theta: θ.
        """
        if self.beta < 0:
            return {}
        lattice, beta, sites = self.lattice, self.beta, volume(self.lattice)
        plaquette = exact.u1_plaquette(lattice, beta, theta)
        squared = exact.u1_charge_squared(lattice, beta, theta)
        ratio = exact.u1_theta_ratio(lattice, beta, theta)
        single = exact.u1_charge_distribution(lattice, beta, np.array(SECTORS)) / ratio
        numbers = {
            "theta_ratio": ratio,
            "plaquette": plaquette,
            "charge": exact.u1_charge_at_theta(lattice, beta, theta),
            "charge_squared": squared,
            "topological_susceptibility": squared / sites,
            **{
                f"P_charge_{n}": float(p) * (2 if n else 1) * math.cos(n * theta)
                for n, p in zip(SECTORS, single, strict=True)
            },
            "sine_susceptibility": exact.u1_sine_charge_squared(lattice, beta, theta) / sites,
            "polyakov": 0.0,
            **self._potential(theta),
            "action_density": -beta * plaquette,
        }
        return {name: Measurement(value, 0.0) for name, value in numbers.items()}

    def probability(self, name: str, values: np.ndarray) -> np.ndarray | None:
        if name != "topological_charge" or self.beta < 0:
            return None
        return exact.u1_charge_distribution(self.lattice, self.beta, values)

    def exact_sampler(self) -> PureGauge | None:
        return PureGauge(self.lattice, self.beta) if self.beta >= 0 else None

    def __call__(self, x: Links) -> LogProb:
        self.check(x)
        return self._value(plaquette_angles(x))

    def evaluate(self, x: Links) -> Evaluation:
        """Value and force from the same plaquettes."""
        self.check(x)
        plaquettes = plaquette_angles(x)
        return Evaluation(self._value(plaquettes), self._force(plaquettes), x)

    def force(self, x: Links) -> Links:
        """−∂S/∂θ_0(x) = β [sin P(x−1̂) − sin P(x)] and −∂S/∂θ_1(x) = β [sin P(x) − sin P(x−0̂)]."""
        return self._force(plaquette_angles(x))

    def _value(self, plaquettes: Tensor) -> LogProb:
        """By cos P = 1 − 2 sin²(P/2): of the 1, rounding would hide how small plaquettes change."""
        half = torch.sin(plaquettes / 2)
        return self.beta * (2 * summed(half * half) - volume(self.lattice))

    def _force(self, plaquettes: Tensor) -> Links:
        sine = self.beta * torch.sin(plaquettes)
        return torch.stack((sine.roll(1, 2) - sine, sine - sine.roll(1, 1)), 1)
