"""The Potts model where it is solved: its critical point on the square lattice, and the ring.

β is that of `theories.Potts` with J = 1. On a side of length 2 two bonds join the same two sites, as there.
"""

import math
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from latflow.theories.digits import derivatives, digits

_LARGEST = 760.0
"""Beyond, exp(−|β|) is below the smallest float: log Z is linear in β."""


def potts_critical_coupling(q: int) -> float:
    """β_c = ln(1 + √q), where the square lattice is self-dual: continuous for q ≤ 4, of first order above.

    Source: Potts, Some generalized order-disorder transformations, Mathematical Proceedings of the Cambridge
    Philosophical Society 48 (1952) 106; Beffara, Duminil-Copin, arXiv:1006.5073, for the proof.

    Raises:
        ValueError: for fewer than 2 states.
    """
    return math.log(1 + math.sqrt(checked_q(q)))


def potts_critical_energy(q: int) -> float:
    """⟨E⟩/V = −(1 + 1/√q) of the infinite square lattice at β_c, by its duality.

    For q > 4 it is the mean of the two phases that coexist. A torus of L × L sites has a lower energy, by an
    amount that falls as L^(1/ν − 2), with 1/ν = 1, 6/5, 3/2 for q = 2, 3, 4. Source: Wu, The Potts model,
    Reviews of Modern Physics 54 (1982) 235.

    Raises:
        ValueError: for fewer than 2 states.
    """
    return -(1 + 1 / math.sqrt(checked_q(q)))


class PottsThermodynamics(NamedTuple):
    """What follows from log Z(β, h), exactly.

    Attributes:
        log_z: log Z.
        action: ⟨S⟩.
        action_variance: ⟨S²⟩ − ⟨S⟩².
        energy: ⟨E⟩/V = −V⁻¹ ∂ log Z/∂β of E = −Σ δ(s_x, s_{x+μ}) over all bonds.
        order_squared: ⟨M²⟩ of M² = Σ_a (n_a − 1/q)² q/(q − 1); None where a field tells the states apart.
    """

    log_z: float
    action: float
    action_variance: float
    energy: float
    order_squared: float | None


def potts_ring(length: int, q: int, beta: float) -> PottsThermodynamics:
    """The ring without a field, by the eigenvalues of its transfer matrix.

        Z = λ^L + (q − 1) μ^L,   λ = e^β + q − 1,   μ = e^β − 1

    Rings in a field are in `potts_torus`.

    Args:
        length: L, at least 2.
        q: how many states, at least 2.
        beta: β, of either sign.

    Raises:
        ValueError: for other arguments.
    """
    correlator = potts_ring_two_point(length, q, beta)
    log_z, first, second = length * math.log(q), length / q, 0.0
    if beta != 0:
        at = _within_reach(beta)
        found = derivatives(lambda b: _log_z(length, q, b), at, gap=2.0)
        with digits():
            log_z = float(found.value + found.first * (Decimal(beta) - Decimal(at)))
        first, second = float(found.first), float(found.second)
    # the correlator over a whole period adds up to L ⟨M²⟩: times t and L − t are alike
    whole = correlator.sum() + correlator[1 : (length + 1) // 2].sum()
    return PottsThermodynamics(log_z, -beta * first, beta**2 * second, -first / length, float(whole) / length)


def _within_reach(beta: float) -> float:
    return max(-_LARGEST, min(_LARGEST, beta))


def _log_z(length: int, q: int, beta: Decimal) -> Decimal:
    return _weight(length, q, beta.exp()).ln()


def _weight(steps: int, q: int, bond: Decimal) -> Decimal:
    """λ^t + (q − 1) μ^t, q times what t bonds give two equal ends."""
    return (bond + q - 1) ** steps + (q - 1) * (bond - 1) ** steps if steps else Decimal(q)


def potts_ring_two_point(length: int, q: int, beta: float) -> np.ndarray:
    """⟨e(s_0) · e(s_t)⟩ of a ring without field for t = 0 … L/2, where e_a · e_b = (q δ_ab − 1)/(q − 1).

        P(s_0 = s_t) = [λ^t + (q−1) μ^t] [λ^{L−t} + (q−1) μ^{L−t}] / (q Z),   Z, λ, μ as in `potts_ring`

    Raises as `potts_ring`.
    """
    if length < 2:
        raise ValueError(f"expected a ring of at least 2 sites, got {length}")
    if not math.isfinite(beta):
        raise ValueError(f"expected a finite beta, got {beta}")
    rest, found = checked_q(q) - 1, []
    at = _within_reach(beta)
    with digits(60 + math.ceil(abs(at))):
        one = Decimal(at).exp()
        for t in range(length // 2 + 1):
            one_way, other_way, z = (_weight(steps, q, one) for steps in (t, length - t, length))
            same = one_way * other_way / (q * z)
            found.append(float((q * same - 1) / rest))
    return np.array(found)


def checked_q(q: int) -> int:
    """The number of states.

    Raises:
        ValueError: for fewer than 2.
    """
    if q < 2:
        raise ValueError(f"expected at least 2 states, got {q}")
    return q
