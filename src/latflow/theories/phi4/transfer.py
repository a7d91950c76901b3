"""The transfer matrix of a scalar theory with n values a site, solved densely or in a block Krylov space.

    Z = Tr T^L,    T = W K^{⊗s} W,    W = exp(−½ Σ_links (Δφ)²) within a slice of s sites,

with K_ij = √(weight_i weight_j) exp(−(φ_i − φ_j)²) between slices. T is symmetric and positive. On more than
about a thousand states it acts site by site and is never stored.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from latflow.types import Lattice

_DENSE_STATES = 1300
_BLOCK = 4  # resolves levels that are up to fourfold degenerate; momenta ±p are twofold
_BASIS_SIZE, _BASIS_NUMBERS = 200, 80_000_000  # of a Krylov basis, at most: 0.64 GB
_GROUP_STATES = 64  # neighbouring sites are transferred together, in one matrix product


class Rule(NamedTuple):
    """Nodes φ_i and weights of the quadrature of one site."""

    nodes: np.ndarray
    weights: np.ndarray


class Trace(NamedTuple):
    """log Tr T^L, ⟨φ²⟩, and the relative weight that eigenvalues left out can have at most."""

    log_trace: float
    phi_squared: float
    tail: float


class Spectrum(NamedTuple):
    """Eigenvalues λ_i, ascending; the norms |T v_i − λ_i v_i|; ⟨i|Σ_x φ_x²|i⟩."""

    values: np.ndarray
    residuals: np.ndarray
    phi_squared: np.ndarray


@dataclass(frozen=True)
class TransferMatrix:
    """T for slices of shape `cross_section`, of no to two dimensions, with the values of `rule` a site."""

    cross_section: Lattice
    rule: Rule

    def trace_of_power(self, length: int, tolerance: float = 0.0) -> Trace:
        """Tr T^L from as many eigenvalues as bring the tail below `tolerance`, or as fit into memory.

        For small k, p_k = Tr T^k is the partition function of the lattice (k, *cross_section), which a
        narrower transfer matrix gives exactly. What Σ λ^k of the eigenvalues at hand lacks of it, r, belongs
        to levels below the largest one that has not converged, μ; to Tr T^L it adds at most r μ^{L−k}.
        """
        if self._states <= _DENSE_STATES:
            values, vectors = np.linalg.eigh(self._apply(np.eye(self._states)))
            spectrum = Spectrum(values, np.zeros_like(values), self._phi_squared() @ vectors**2)
            return _trace(spectrum, self._sites, length, tail=0.0)
        power, narrow = self._across()
        log_power = narrow.trace_of_power(max(power, *self.cross_section)).log_trace

        def tail(values: np.ndarray, residuals: np.ndarray) -> float:
            ratios = values / values[-1]
            lacking = math.exp(log_power - power * math.log(values[-1])) - float((ratios**power).sum())
            settled = residuals < np.minimum(1e-4 * values[-1], 0.01 * abs(values))
            return max(lacking, 0.0) * float(ratios[~settled].max(initial=0.0)) ** (length - power)

        spectrum = self._krylov(lambda values, residuals: tail(values, residuals) < tolerance)
        return _trace(spectrum, self._sites, length, tail(spectrum.values, spectrum.residuals))

    @property
    def _sites(self) -> int:
        return math.prod(self.cross_section)

    @property
    def _states(self) -> int:
        return len(self.rule.nodes) ** self._sites

    def _across(self) -> "tuple[int, TransferMatrix]":
        """The largest k for which (k, *cross_section) has a small transfer matrix along its longest side."""
        for power in range(max(self.cross_section), 0, -1):
            narrow = TransferMatrix(tuple(sorted((power, *self.cross_section))[:-1]), self.rule)
            if narrow._states <= _DENSE_STATES or power == 1:
                break
        return power, narrow

    def _krylov(self, enough: Callable[[np.ndarray, np.ndarray], bool]) -> Spectrum:
        """Rayleigh-Ritz in the span of X, TX, T²X, … of a random block X, grown until it is `enough`."""
        size = max(min(_BASIS_SIZE, _BASIS_NUMBERS // self._states) // _BLOCK, 1) * _BLOCK
        basis, matrix = np.empty((size, self._states)), np.zeros((size, size))
        values = vectors = residuals = np.empty(0)
        start = np.random.default_rng(0).standard_normal((_BLOCK, self._states)) * self._slice_weight
        columns = np.linalg.qr(start.T)[0]
        for stop in range(_BLOCK, size + 1, _BLOCK):
            new = slice(stop - _BLOCK, stop)
            basis[new] = columns.T
            image = self._apply(basis[new])
            matrix[:stop, new] = basis[:stop] @ image.T
            matrix[new, :stop] = matrix[:stop, new].T
            for _ in range(2):  # once is not enough in finite precision
                image -= (image @ basis[:stop].T) @ basis[:stop]
            columns, remainder = np.linalg.qr(image.T)
            values, vectors = np.linalg.eigh(matrix[:stop, :stop])
            residuals = np.linalg.norm(remainder @ vectors[new], axis=0)
            exhausted = np.abs(np.diag(remainder)).min() < 1e-12 * values[-1]
            if exhausted or enough(values, residuals):
                break
        basis = basis[: len(values)]
        observable = (basis * self._phi_squared()) @ basis.T
        return Spectrum(values, residuals, np.einsum("ji,jk,ki->i", vectors, observable, vectors))

    def _apply(self, states: np.ndarray) -> np.ndarray:
        """T on a block of states (block, n^s): a few sites at a time are transferred and moved behind."""
        block, points = len(states), len(self.rule.nodes)
        states = states * self._slice_weight
        together = max(int(math.log(_GROUP_STATES, points)), 1)
        for first in range(0, self._sites, together):
            group = _power_of(self._site_matrix, min(together, self._sites - first))
            states = np.matmul(states.reshape(block, len(group), -1).swapaxes(1, 2), group)
        return states.reshape(block, -1) * self._slice_weight

    @cached_property
    def _site_matrix(self) -> np.ndarray:
        """K_ij = √(weight_i weight_j) exp(−(φ_i − φ_j)²)."""
        nodes, weights = self.rule
        return np.sqrt(np.outer(weights, weights)) * np.exp(-((nodes[:, None] - nodes) ** 2))

    @cached_property
    def _slice_weight(self) -> np.ndarray:
        """W for every state of a slice."""
        sites = np.arange(self._sites).reshape(self.cross_section)
        exponent = np.zeros((len(self.rule.nodes),) * self._sites)
        for axis in range(sites.ndim):
            for site, neighbour in zip(
                sites.ravel().tolist(), np.roll(sites, -1, axis).ravel().tolist(), strict=True
            ):
                exponent -= (self._field(site) - self._field(neighbour)) ** 2 / 2
        return np.exp(exponent).ravel()

    def _phi_squared(self) -> np.ndarray:
        """Σ_x φ_x² for every state of a slice."""
        total = np.zeros((len(self.rule.nodes),) * self._sites)
        for site in range(self._sites):
            total += self._field(site) ** 2
        return total.ravel()

    def _field(self, site: int) -> np.ndarray:
        """The value at one site, to be broadcast over the states (n, n, …) of the slice."""
        shape = [1] * self._sites
        shape[site] = -1
        return self.rule.nodes.reshape(shape)


def _trace(spectrum: Spectrum, sites: int, length: int, tail: float) -> Trace:
    """Tr T^L and ⟨φ²⟩ = Σ_i λ_i^L ⟨i|Σ_x φ_x²|i⟩ / (s Tr T^L)."""
    weights = np.maximum(spectrum.values / spectrum.values[-1], 0) ** length
    total = float(weights.sum())
    return Trace(
        log_trace=length * math.log(spectrum.values[-1]) + math.log(total),
        phi_squared=float(weights @ spectrum.phi_squared) / total / sites,
        tail=tail / total,
    )


def _power_of(matrix: np.ndarray, exponent: int) -> np.ndarray:
    """The Kronecker power matrix ⊗ … ⊗ matrix."""
    power = np.ones((1, 1))
    for _ in range(exponent):
        power = np.kron(power, matrix)
    return power
