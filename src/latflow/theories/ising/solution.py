"""The Ising model, exp(K Σ s_x s_y): Kaufman's solution on a torus, the ring, and sums over small lattices.

K = β of `actions.Ising`, with J = 1. On a side of length 2 two bonds join the same two sites, as there.
"""

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latflow.lattice import checked_lattice, volume
from latflow.theories import Action, Ising
from latflow.theories.digits import Derivatives, cosines, derivatives, digits
from latflow.types import Lattice, Spins

_CHUNK = 1 << 16


def ising_log_z(lattice: Sequence[int], beta: float) -> float:
    """log Z of the Ising model without field, on a ring or on a torus of two dimensions.

        ring:   Z = (2 cosh K)^L + (2 sinh K)^L
        torus:  Z = ½ (2 sinh 2K)^{V/2} [Π_r 2cosh(m γ_{2r+1}/2) + Π_r 2sinh(m γ_{2r+1}/2)
                                        + Π_r 2cosh(m γ_{2r}/2)   + Π_r 2sinh(m γ_{2r}/2)],   r = 0 … n−1

    for m × n sites, with cosh γ_l = cosh 2K coth 2K − cos(πl/n) and γ_0 = 2K + log tanh K, which is negative
    in the symmetric phase. It holds for odd sides too. Source: Kaufman, Crystal statistics II, Physical
    Review 76 (1949) 1232.

    Args:
        lattice: one or two side lengths, each at least 2.
        beta: K > 0.

    Raises:
        ValueError: for another lattice or a coupling that is not positive and finite.

    Example:
        >>> round(ising_log_z((4, 4), beta=0.44068679), 10)
        15.5219153708
    """
    sides, coupling = _checked(lattice, beta)
    with digits():
        return float(_log_z(sides, Decimal(coupling)))


def ising_energy(lattice: Sequence[int], beta: float) -> float:
    """⟨E⟩/V of E = −Σ s_x s_y over all bonds, −V⁻¹ ∂ log Z/∂K.

    It is the expectation value of `observables.bond_energy`, and ⟨S⟩ = K ⟨E⟩. Raises as `ising_log_z`.
    """
    sides, coupling = _checked(lattice, beta)
    return -float(_derivatives(sides, coupling).first) / volume(sides)


def ising_specific_heat(lattice: Sequence[int], beta: float) -> float:
    """C = K² V⁻¹ ∂² log Z/∂K² = V⁻¹ (⟨S²⟩ − ⟨S⟩²). Raises as `ising_log_z`."""
    sides, coupling = _checked(lattice, beta)
    return coupling**2 * float(_derivatives(sides, coupling).second) / volume(sides)


def ising_entropy(lattice: Sequence[int], beta: float) -> float:
    """−Σ_s p(s) log p(s) = log Z + ⟨S⟩ = log Z − K ∂ log Z/∂K of the whole lattice.

    Raises as `ising_log_z`.
    """
    sides, coupling = _checked(lattice, beta)
    log_z, first, _ = _derivatives(sides, coupling)
    with digits(1000):
        return float(log_z - Decimal(min(coupling, _LARGEST)) * first)


def log_row_transfer(cross_section: Lattice, beta: float) -> np.ndarray:
    """log T of the symmetric transfer matrix between neighbouring rows s and s′, in float64.

        T(s, s′) = exp(½ K Σ_bonds s s + K Σ_x s_x s′_x + ½ K Σ_bonds s′ s′),    Z = Tr T^m

    Its states are those of `spin_states`, in their order.

    Args:
        cross_section: side lengths of a row, none for a ring.
        beta: K.
    """
    states = spin_states(cross_section or (1,))
    within = -Ising(cross_section, beta)(states).numpy() / 2 if cross_section else np.zeros(len(states))
    flat = states.flatten(1).numpy()
    return within[:, None] + beta * (flat @ flat.T) + within


class MagnetizationDistribution(NamedTuple):
    """The magnetisations M = V⁻¹ Σ_x s_x that a lattice can have, and their probabilities."""

    values: np.ndarray
    probabilities: np.ndarray

    def mean_of(self, function: np.ufunc) -> float:
        """⟨function(M)⟩, for example of `numpy.abs` or `numpy.square`."""
        return float(function(self.values) @ self.probabilities)


def ising_magnetization(lattice: Sequence[int], beta: float, field: float = 0.0) -> MagnetizationDistribution:
    """The distribution of the magnetisation, by the transfer matrix in imaginary fields.

        P(M = 1 − 2k/V) ∝ (V+1)⁻¹ Σ_j exp(2πi jk/(V+1)) Z(h_j),   Z(h) = Tr T(h)^m

    where the phases of h_j = h − πi j/(V+1) count the k spins that are −1. T joins rows of the shorter side
    n, with 2^n states: a second for rows of 8 sites. Probabilities below 10⁻¹⁴ of the largest are rounding.

    Args:
        lattice: one or two side lengths, each at least 2, the shorter at most 10.
        beta: K > 0.
        field: the external field h.

    Raises:
        ValueError: as `ising_log_z`, for rows that are too long, and a field that is not finite.
    """
    sides, _ = _checked(lattice, beta)
    rows, length = (max(sides), min(sides)) if len(sides) == 2 else (sides[0], 1)
    if length > 10:
        raise ValueError(f"expected a shorter side of at most 10, got {sides}")
    sites = rows * length
    if not math.isfinite(field):
        raise ValueError(f"expected a finite field, got {field}")
    down = (length - spin_states((length,)).numpy().sum(1)) / 2
    log_transfer = log_row_transfer((length,) if len(sides) == 2 else (), beta)
    log_transfer = log_transfer + field * (length - 2 * down)[:, None]
    transfer = np.exp(log_transfer - log_transfer.max())
    spectrum = np.empty(sites + 1, dtype=np.complex128)
    for j in range(sites + 1):
        phase = np.exp(2j * np.pi * j * down / (sites + 1))
        spectrum[j] = np.trace(np.linalg.matrix_power(phase[:, None] * transfer, rows))
    weight = np.fft.fft(spectrum).real.clip(min=0)
    values = 1 - 2 * np.arange(sites + 1) / sites
    return MagnetizationDistribution(values, weight / weight.sum())


class Enumerated(NamedTuple):
    """Expectation values by the sum over all configurations.

    Attributes:
        log_z: log Z.
        action: ⟨S⟩.
        action_variance: ⟨S²⟩ − ⟨S⟩².
        m: ⟨M⟩, with M = V⁻¹ Σ_x s_x.
        m_abs: ⟨|M|⟩.
        m_squared: ⟨M²⟩.
        m_fourth: ⟨M⁴⟩.
    """

    log_z: float
    action: float
    action_variance: float
    m: float
    m_abs: float
    m_squared: float
    m_fourth: float


def spins_enumerated(action: Action) -> Enumerated:
    """Z = Σ_s exp(−S(s)) and means, summed over all 2^V configurations, whatever the couplings.

    Args:
        action: of spins, on at most 24 sites.

    Raises:
        ValueError: for a lattice with more sites.

    Example:
        >>> from latflow.theories import Ising
        >>> round(spins_enumerated(Ising((4, 4), beta=0.3)).log_z, 10)
        12.7855233257
    """
    actions, magnetizations = [], []
    for states in _states_in_chunks(action.lattice):
        actions.append(action(states))
        magnetizations.append(states.flatten(1).mean(1))
    s, m = torch.cat(actions), torch.cat(magnetizations)
    lowest = s.min()  # what actions have in common would take the digits of their differences
    above = s - lowest
    log_sum = torch.logsumexp(-above, 0)
    p = torch.exp(-above - log_sum)
    mean = (p * above).sum()
    moments = (p * (above - mean) ** 2, p * m, p * m.abs(), p * m**2, p * m**4)
    return Enumerated(
        float(log_sum - lowest), float(mean + lowest), *(float(moment.sum()) for moment in moments)
    )


def spin_states(lattice: Sequence[int]) -> Spins:
    """All 2^V configurations, (2^V, *lattice) in float64; the last is minus the first, and so on inwards."""
    return torch.cat(list(_states_in_chunks(checked_lattice(lattice))))


def _states_in_chunks(lattice: Lattice) -> Iterator[Tensor]:
    sites = volume(lattice)
    if sites > 24:
        raise ValueError(f"expected at most 24 sites to enumerate, got {sites} on {lattice}")
    powers = 2 ** torch.arange(sites - 1, -1, -1)
    for first in range(0, 2**sites, _CHUNK):
        numbers = torch.arange(first, min(first + _CHUNK, 2**sites))
        bits = (numbers[:, None] & powers) == 0
        yield (2 * bits.double() - 1).unflatten(1, lattice)


def _checked(lattice: Sequence[int], beta: float) -> tuple[Lattice, float]:
    sides = checked_lattice(lattice)
    if len(sides) > 2 or min(sides) < 2:
        raise ValueError(f"expected one or two sides of at least 2, got {lattice!r}")
    if not (beta > 0 and math.isfinite(beta)):
        raise ValueError(f"expected a positive, finite beta, got {beta}")
    return sides, float(beta)


_LARGEST = 200.0
"""Beyond, exp(−4K) is below the smallest float: energies and entropy have reached their limits."""


def _derivatives(lattice: Lattice, coupling: float) -> Derivatives:
    """log Z and its derivatives by K, of at most `_LARGEST`."""
    return derivatives(lambda k: _log_z(lattice, k), min(coupling, _LARGEST), gap=8.0)


def _log_z(lattice: Lattice, coupling: Decimal) -> Decimal:
    """The formulas of `ising_log_z`, with the factors exp(γ) themselves, of which none can overflow."""
    grown, shrunk = coupling.exp(), (-coupling).exp()
    cosh, sinh = grown + shrunk, grown - shrunk  # twice cosh K and sinh K
    if len(lattice) == 1:
        return (cosh ** lattice[0] + sinh ** lattice[0]).ln()
    length, rows = lattice
    twice = sinh * cosh  # 2 sinh 2K
    ratio = (grown**2 + shrunk**2) ** 2 / (2 * twice)  # cosh 2K coth 2K
    cosine = cosines(rows)
    factors = [_larger_root(ratio - cosine[number]) for number in range(1, 2 * rows)]
    odd, even = factors[::2], [grown**2 * sinh / cosh, *factors[1::2]]  # of γ_0, which is signed
    total = _products(odd, length) + _products(even, length)
    return (twice ** (length * rows)).sqrt().ln() + (total / 2).ln()


def _larger_root(cosh: Decimal) -> Decimal:
    """exp(γ) for γ ≥ 0."""
    return cosh + (cosh * cosh - 1).sqrt()


def _products(factors: list[Decimal], length: int) -> Decimal:
    """Π 2cosh(mγ/2) + Π 2sinh(mγ/2) from the numbers exp(γ)."""
    powers = [factor**length for factor in factors]
    plus, minus = math.prod(1 + 1 / power for power in powers), math.prod(1 - 1 / power for power in powers)
    return Decimal(math.prod(powers)).sqrt() * (plus + minus)
