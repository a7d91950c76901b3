"""The order of Potts states: what is recorded of each configuration, and the rows that follow from it.

The q states point to the corners of a regular simplex of q−1 dimensions, e_a · e_b = (q δ_ab − 1)/(q − 1).
The order is the vector M = V⁻¹ Σ_x e(s_x) = Σ_a n_a e_a, where n_a is the fraction of the sites in state a;
in the ordered phases it points to one of the corners. For q = 2 it is the magnetisation.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from latflow.fields.spins import thermodynamic
from latflow.formulas import Expectation, correlation_length, ratio, susceptibility
from latflow.observables.base import Observable, Sectors
from latflow.observables.scalar import lowest_mode, two_point
from latflow.types import Lattice, LogProb, States


def bond_energy(x: States) -> LogProb:
    """E/V = −V⁻¹ Σ_x Σ_μ δ(s_x, s_{x+μ}) of each configuration, between −d and 0, in float64.

    With uniform couplings and no field S = β E, and ⟨E⟩ = −∂ log Z/∂β.
    """
    equal = torch.stack([x == x.roll(-1, axis) for axis in range(1, x.ndim)], 1)
    return -equal.flatten(1).sum(1).double() / math.prod(x.shape[1:])


@dataclass(frozen=True)
class Order:
    """What is recorded of the order of q states, in float64.

        fraction_a       n_a = V⁻¹ Σ_x δ(s_x, a)
        order_parameter  m = (q max_a n_a − 1)/(q − 1)
        order_squared    M² = Σ_a (n_a − 1/q)² q/(q − 1)
        two_point        C(t) = Σ_x⃗ e(s_(0,0)) · e(s_(t,x⃗)), averaged over the origin; Σ_t C(t) = V M²
        lowest_mode      |Σ_x exp(−2πi x_μ/L_μ) e(s_x)|²/V, the mean over the longest directions
        phase            a + m/2, where state a has the majority; −1 + m/2 where several share it

    Args:
        q: how many states.
    """

    q: int

    def __call__(self, x: States) -> dict[str, Tensor]:
        """The records by name, for a batch of configurations."""
        is_state = functional.one_hot(x, self.q).movedim(-1, 1).double()
        fractions = is_state.flatten(2).mean(2)
        deviations = is_state.flatten(0, 1) - 1 / self.q
        m = (self.q * fractions.amax(1) - 1) / (self.q - 1)
        return {
            **{fraction_name(state): fractions[:, state] for state in range(self.q)},
            "order_parameter": m,
            "order_squared": (fractions - 1 / self.q).square().sum(1) * self._norm,
            "two_point": two_point(deviations).unflatten(0, (-1, self.q)).sum(1) * self._norm,
            "lowest_mode": lowest_mode(deviations).unflatten(0, (-1, self.q)).sum(1) * self._norm,
            "phase": majority(fractions) + m / 2,
        }

    @property
    def _norm(self) -> float:
        return self.q / (self.q - 1)


def majority(fractions: Tensor) -> Tensor:
    """The state of most sites, from the fractions (batch, q); −1 where several share the first place."""
    largest = fractions == fractions.amax(1, keepdim=True)
    return torch.where(largest.sum(1) == 1, largest.int().argmax(1), -1)


def fraction_name(state: int) -> str:
    """The name of the series and of the row of n_a."""
    return f"fraction_{state}"


def order_cumulant(order_squared: Expectation, order_fourth: Expectation, q: int) -> Expectation:
    """U = 1 − (q − 1)/(q + 1) ⟨M⁴⟩/⟨M²⟩²: for q = 2 the Binder cumulant of the magnetisation.

    It is 0 for a Gaussian vector of q−1 components, and 2/(q + 1) deep in the ordered phase.
    """
    return 1 - (q - 1) / (q + 1) * ratio(order_fourth, order_squared**2)


def observables(lattice: Lattice, q: int, *, symmetric: bool) -> tuple[Observable, ...]:
    """What is recorded and tabled of q states on a lattice.

    Args:
        lattice: side lengths.
        q: how many states.
        symmetric: whether the action makes all states alike.
    """
    sites, order, of = math.prod(lattice), Order(q), ("order_parameter",)
    phases = Sectors(
        title="phases",
        number=lambda phase: np.floor(phase).astype(int),
        name=lambda state: f"state {state}",
        alike=lambda phase: phase - np.floor(phase),
        equal=q if symmetric else None,
    )
    return (
        *thermodynamic(sites),
        Observable("energy", "⟨E⟩/V", bond_energy),
        Observable(
            "order_parameter", "⟨m⟩", order, slow=True, spacing=q / ((q - 1) * sites), shown=("histogram",),
            symbol="m", tex="$m$",
            meaning="m is 1 where all sites are in one state, and 0 where all states are equally frequent.",
        ),
        *(
            Observable(fraction_name(state), f"⟨n_{state}⟩", order, symbol=f"n_{state}")
            for state in range(q)
        ),
        Observable("order_squared", function=order),
        Observable("V_order_squared", "V⟨M²⟩", of=("order_squared",), each=lambda squared: sites * squared),
        Observable(
            "susceptibility",
            "V(⟨m²⟩−⟨m⟩²)",
            of=of,
            each=lambda m: (m**2, m),
            average=lambda m_squared, m: susceptibility(m_squared, m, sites),
        ),
        Observable(
            "binder_cumulant",
            "cumulant of M",
            of=("order_squared",),
            each=lambda squared: (squared, squared**2),
            average=lambda squared, fourth: order_cumulant(squared, fourth, q),
            scaling=0,
            tex="$U$",
        ),
        Observable("lowest_mode", function=order),
        Observable(
            "correlation_length",
            "ξ (second moment)",
            of=("order_squared", "lowest_mode"),
            each=lambda squared, mode: (sites * squared, mode),
            average=lambda zero, lowest: correlation_length(zero, lowest, max(lattice)),
            may_be_undefined=True,
            scaling=1,
            symbol="ξ",
            tex=r"$\xi$",
        ),
        Observable(
            "two_point", function=order, axes=("time",), symbol="C(t)",
            meaning="C(t) = Σ_x⃗ ⟨e(s(0,0)) · e(s(t,x⃗))⟩ along direction 0, where e_a · e_b is 1 for equal "
            "states and −1/(q−1) for others; not connected: it does not fall to zero in an ordered phase. "
            "Neighbouring times are correlated, so several pulls of one sign are no surprise.",
        ),
        Observable(
            "phase", function=order, sectors=phases, shown=("history",), symbol="a + m/2", tex="$a + m/2$",
            meaning="a is the state of most sites, and m the order parameter.",
        ),
    )  # fmt: skip
