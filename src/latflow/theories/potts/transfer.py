"""The Potts model on tori with narrow rows, by the transfer matrix between these.

    T(s, s′) = Π_x exp(β δ(s_x, s′_x)) exp(W(s′)),   W(s) = β Σ_bonds δ(s, s) + Σ_x h(s_x)

and Z = Tr T^m over the states s of a row. Those that turn into each other by translations, reflections, or by
renaming what has one field contribute the same: one of each orbit is enough. T is never written down: its
first factor is a product over sites, applied to the two halves of a row one after the other. Derivatives are
carried along.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from latflow.lattice import checked_lattice, volume
from latflow.theories.potts.enumeration import potts_states
from latflow.theories.potts.order import bond_energy
from latflow.theories.potts.solution import PottsThermodynamics, checked_q
from latflow.types import Lattice

_MOST_STATES = 1 << 17
_ENTRIES_AT_ONCE = 1 << 18
_ROUNDING, _LOST = 1e-15, 1e-6
"""Of squared slopes, and the most that a variance may lose by it."""


def potts_torus(
    lattice: Sequence[int], q: int, beta: float, field: Sequence[float] | None = None
) -> PottsThermodynamics:
    """log Z of a ring or a torus, whose rows may be two-dimensional, and its derivatives.

        ⟨S⟩ = −∂ log Z(tβ, th)/∂t,   ⟨S²⟩ − ⟨S⟩² = ∂² log Z/∂t²   at t = 1
        ⟨M²⟩ = q²/(q − 1) V⁻² ∂² log Z/∂h(0)²                     without a field

    Rows run along all directions but the longest. On one core q = 3 takes 2 seconds on 8×8, with rows of
    3⁸ states.

    Args:
        lattice: one to three side lengths, each at least 2; a row has at most 2¹⁷ states.
        q: how many states.
        beta: β, of either sign.
        field: h of each state; none if None.

    Raises:
        ValueError: for other arguments, and for a frustrated lattice at so large a |β| that fluctuations are
            lost in rounding.

    Example:
        >>> round(potts_torus((4, 4), q=3, beta=1.0).log_z, 10)
        34.0346734494
    """
    sides, h = checked_lattice(lattice), (0.0,) * checked_q(q) if field is None else tuple(map(float, field))
    if min(sides) < 2 or len(h) != q or not np.isfinite([beta, *h]).all():
        raise ValueError(
            f"expected sides of at least 2, finite numbers and a field of {q} numbers, got {lattice!r}, "
            f"{beta}, {field}"
        )
    length, *row = sorted(sides, reverse=True)
    if q ** volume(tuple(row)) > _MOST_STATES:
        raise ValueError(f"expected rows of at most 2¹⁷ states, got {q}^{volume(tuple(row))} on {lattice!r}")
    return _solved(length, tuple(row), q, float(beta), h)


@cache
def _solved(length: int, row: Lattice, q: int, beta: float, h: tuple[float, ...]) -> PottsThermodynamics:
    sites, none, rows = length * volume(row), (0.0,) * q, _Rows(row, q, h)
    if len(set(h)) > 1:
        log_z, slope, variance = rows.log_z(length, beta, h, beta, h)
        _, slope_of_coupling, _ = rows.log_z(length, beta, h, 1.0, none)
        return PottsThermodynamics(log_z, -slope, variance, -slope_of_coupling / sites, None)
    log_z, slope, bend = rows.log_z(length, beta, h, 1.0, none, beta)
    first = (1.0, *none[1:])
    in_field = _Rows(row, q, first).log_z(length, beta, h, 0.0, first)
    order_squared = in_field[2] * q**2 / ((q - 1) * sites**2)
    return PottsThermodynamics(
        log_z, -beta * slope - h[0] * sites, beta**2 * bend, -slope / sites, order_squared
    )


Jet = tuple[Tensor, Tensor, Tensor]
"""A quantity and its first two derivatives along a line in the space of β and h."""


class _Rows:
    """The states of a row and what T needs of them.

    Attributes:
        sites: n of a row; 1 for a ring.
        bonds: how many bonds within a row have equal ends.
        counts: how many sites of a row are in each state, (q^n, q).
        first, number: the lowest state of each orbit, and how many states it has.
    """

    def __init__(self, row: Lattice, q: int, h: Sequence[float]) -> None:
        self.q, self.sites = q, volume(row)
        states = potts_states(row or (1,), q)
        self.bonds = -bond_energy(states) * self.sites if row else torch.zeros(q, dtype=torch.float64)
        self.counts = functional.one_hot(states.flatten(1), q).sum(1).double()
        self.first, self.number = _orbits(states, h)

    def log_z(
        self,
        length: int,
        beta: float,
        h: Sequence[float],
        d_beta: float,
        d_h: Sequence[float],
        scale: float = 1.0,
    ) -> tuple[float, float, float]:
        """log Z and its derivatives along (dβ, dh), a direction with the symmetries that the orbits have.

        Raises ValueError where the second derivative, times scale², is lost in rounding.
        """
        within, slope = self._within(beta, h), self._within(d_beta, d_h)
        highest, bond = within.max(), max(beta, 0.0)
        # slopes count from those of the heaviest rows and bonds: what has next to no weight is no difference
        lowest, of_bond = slope[within.argmax()], d_beta if beta > 0 else 0.0
        slope = slope - lowest
        upper, lower = (
            _site_factors(self.q, n, beta, d_beta, of_bond)
            for n in (self.sites // 2, self.sites - self.sites // 2)
        )
        shape = (len(upper[0]), len(lower[0]))
        diagonal = _exponential((within - highest).view(shape), slope.view(shape))
        chunk = max(1, _ENTRIES_AT_ONCE // len(within))
        parts = [
            _trace(length, starts, number, diagonal, upper, lower)
            for starts, number in zip(self.first.split(chunk), self.number.split(chunk), strict=True)
        ]
        log_scale = torch.stack([scale for scale, _ in parts])
        weight = torch.exp(log_scale - log_scale.max())
        terms = zip(*(jet for _, jet in parts), strict=True)
        z, dz, ddz = (float(weight @ torch.stack(term)) for term in terms)
        if not z > 0:  # every term below the smallest float, relative to rows and bonds that cannot meet
            raise ValueError(f"expected a smaller |β| than {abs(beta):g} of a frustrated lattice")
        log_z = length * (float(highest) + self.sites * bond) + float(log_scale.max()) + math.log(z)
        first, second = dz / z, ddz / z - (dz / z) ** 2
        if _ROUNDING * first**2 * scale**2 > _LOST:
            raise ValueError(f"expected a smaller |β| than {abs(beta):g}: rounding exceeds the fluctuations")
        return log_z, length * (float(lowest) + self.sites * of_bond) + first, second

    def _within(self, coupling: float, fields: Sequence[float]) -> Tensor:
        """W(s) of each state, linear in β and h."""
        return coupling * self.bonds + self.counts @ torch.tensor(fields, dtype=torch.float64)


def _trace(
    length: int, starts: Tensor, number: Tensor, diagonal: Jet, upper: Jet, lower: Jet
) -> tuple[Tensor, Jet]:
    """(c, Σ_s number(s) ⟨e_s, T^length e_s⟩ exp(−c)), with a c that no vector overflows."""
    start = functional.one_hot(starts, diagonal[0].numel()).double().unflatten(1, diagonal[0].shape)
    vectors: Jet = (start, torch.zeros_like(start), torch.zeros_like(start))
    log_scale = torch.zeros((), dtype=torch.float64)
    for _ in range(length):
        vectors = _times(torch.mul, diagonal, vectors)
        vectors = _times(torch.matmul, _times(torch.matmul, upper, vectors), lower)
        scale = vectors[0].amax()
        vectors = (vectors[0] / scale, vectors[1] / scale, vectors[2] / scale)
        log_scale = log_scale + scale.log()
    value, first, second = (number @ vector.flatten(1).gather(1, starts[:, None])[:, 0] for vector in vectors)
    return log_scale, (value, first, second)


def _site_factors(q: int, sites: int, beta: float, d_beta: float, of_bond: float) -> Jet:
    """Π_x exp(β δ(s_x, s′_x) − max(β, 0)) of some sites, a matrix of their states: a Kronecker product.

    The slope of a bond is dβ δ(s, s′) − `of_bond`.
    """
    one = torch.eye(q, dtype=torch.float64)
    bond, slope, bend = _exponential(beta * one - max(beta, 0.0), d_beta * one - of_bond)
    factor: Jet = (torch.ones(1, 1).double(), torch.zeros(1, 1).double(), torch.zeros(1, 1).double())
    for _ in range(sites):
        factor = _times(torch.kron, factor, (bond, slope, bend))
    return factor


def _exponential(exponent: Tensor, slope: Tensor) -> Jet:
    value = torch.exp(exponent)
    return value, slope * value, slope**2 * value


def _times(product: Callable[[Tensor, Tensor], Tensor], one: Jet, other: Jet) -> Jet:
    """A product of two, by the rule of Leibniz."""
    (a, da, dda), (b, db, ddb) = one, other
    return (
        product(a, b),
        product(da, b) + product(a, db),
        product(dda, b) + 2 * product(da, db) + product(a, ddb),
    )


def _orbits(states: Tensor, h: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The lowest state of a row in each orbit and how many states it has, float64."""
    row, axes = states.shape[1:], tuple(range(1, states.ndim))
    powers = len(h) ** torch.arange(row.numel() - 1, -1, -1)
    lowest = torch.arange(len(states))
    for mirrored in (states, states.flip(axes)):
        for turn in itertools.product(*map(range, row)):
            renamed = _renamed(mirrored.roll(turn, axes).flatten(1), h)
            lowest = torch.minimum(lowest, renamed @ powers)
    first, number = lowest.unique(return_counts=True)
    return first, number.double()


def _renamed(states: Tensor, h: Sequence[float]) -> Tensor:
    """The same rows (rows, sites), with states of equal fields named in the order in which they are met."""
    group = torch.tensor([sorted(set(h)).index(one) for one in h])
    members = torch.zeros(len(set(h)), len(h) + 1, dtype=torch.int64)
    for g in range(len(members)):
        members[g, : int((group == g).sum())] = (group == g).nonzero()[:, 0]
    names = torch.full((len(states), len(h)), -1)
    used = torch.zeros(len(states), len(members), dtype=torch.int64)
    for state in states.split(1, 1):
        mine, name = group[state], names.gather(1, state)
        fresh = name < 0
        names.scatter_(1, state, torch.where(fresh, members[mine, used.gather(1, mine)], name))
        used.scatter_add_(1, mine, fresh.long())
    return names.gather(1, states)
