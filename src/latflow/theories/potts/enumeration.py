"""Sums over all configurations of a small lattice of q states."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latflow.lattice import checked_lattice, volume
from latflow.theories.base import Action
from latflow.theories.potts.order import Order, bond_energy, fraction_name
from latflow.types import Lattice, States

_CHUNK = 1 << 16
_MOST = 1 << 24


class EnumeratedStates(NamedTuple):
    """Expectation values by the sum over all configurations; the order is that of `theories.potts.order`.

    Attributes:
        log_z: log Z.
        action: ⟨S⟩.
        action_variance: ⟨S²⟩ − ⟨S⟩².
        energy: ⟨E⟩/V of E = −Σ δ(s_x, s_{x+μ}) over all bonds.
        fractions: ⟨n_a⟩ of each state.
        order: ⟨m⟩, with m = (q max_a n_a − 1)/(q − 1).
        order_max_squared: ⟨m²⟩.
        order_squared: ⟨M²⟩, with M² = Σ_a (n_a − 1/q)² q/(q − 1).
        order_fourth: ⟨M⁴⟩.
    """

    log_z: float
    action: float
    action_variance: float
    energy: float
    fractions: tuple[float, ...]
    order: float
    order_max_squared: float
    order_squared: float
    order_fourth: float


def potts_enumerated(action: Action) -> EnumeratedStates:
    """Z = Σ_s exp(−S(s)) and means, summed over all q^V configurations, whatever the couplings.

    Args:
        action: of a field with a few values a site, 0 … q−1, of which there are at most 2²⁴ configurations.

    Raises:
        ValueError: for another field, and for more configurations.

    Example:
        >>> from latflow.theories import Potts
        >>> round(potts_enumerated(Potts((2, 3), q=3, beta=1.0)).log_z, 10)
        13.486557488
    """
    q = action.kind.states
    if q is None:
        raise ValueError(f"expected a field with a few values a site to enumerate, got {action.kind}")
    order = Order(q)
    sums, shift = torch.zeros((), dtype=torch.float64), torch.tensor(-torch.inf, dtype=torch.float64)
    for states in _in_chunks(action.lattice, q):
        s, record = action(states).double(), order(states)
        m, squared = record["order_parameter"], record["order_squared"]
        fractions = [record[fraction_name(state)] for state in range(q)]
        larger = torch.maximum(shift, (-s).max())  # weights are relative to the largest: none overflows,
        above = s + larger  # and so are actions: the variance is no difference of large numbers
        columns = [
            torch.ones_like(s),
            above,
            above**2,
            bond_energy(states),
            m,
            m**2,
            squared,
            squared**2,
            *fractions,
        ]
        if sums.ndim:
            sums = _measured_from(sums, float(larger - shift))
        sums = sums * torch.exp(shift - larger) + torch.exp(-above) @ torch.stack(columns, 1)
        shift = larger
    log_z = float(shift + sums[0].log())
    _, above, squared_above, energy, m, m_squared, squared, fourth, *fractions = (sums / sums[0]).tolist()
    return EnumeratedStates(
        log_z,
        above - float(shift),
        squared_above - above**2,
        energy,
        tuple(fractions),
        m,
        m_squared,
        squared,
        fourth,
    )


def _measured_from(sums: Tensor, lower: float) -> Tensor:
    """The sums over weights of 1, s, s² and others, with s counted from a point that much lower."""
    one, s, squared = sums[:3]
    shifted = torch.stack((one, s + lower * one, squared + 2 * lower * s + lower**2 * one))
    return torch.cat((shifted, sums[3:]))


def potts_states(lattice: Sequence[int], q: int) -> States:
    """All q^V configurations, (q^V, *lattice), counted in base q: the last site changes fastest.

    Raises:
        ValueError: for more than 2²⁴.
    """
    return torch.cat(list(_in_chunks(checked_lattice(lattice), q)))


def _in_chunks(lattice: Lattice, q: int) -> Iterator[Tensor]:
    sites = volume(lattice)
    if q**sites > _MOST:
        raise ValueError(f"expected at most 2²⁴ configurations to enumerate, got {q}^{sites} on {lattice}")
    powers = q ** torch.arange(sites - 1, -1, -1)
    for first in range(0, q**sites, _CHUNK):
        numbers = torch.arange(first, min(first + _CHUNK, q**sites))
        yield (numbers[:, None] // powers % q).unflatten(1, lattice)
