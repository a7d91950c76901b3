"""Observables of a scalar field: functions of each configuration, and formulas of expectation values."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latflow.types import Field, LogProb

Expectation = Any
"""An expectation value: a number, an array of them, or an `Obs` of pyerrors."""


def magnetization(x: Field) -> LogProb:
    """M = V⁻¹ Σ_x φ_x of each configuration."""
    return x.flatten(1).mean(1)


def phi_squared(x: Field) -> LogProb:
    """V⁻¹ Σ_x φ_x² of each configuration."""
    return x.square().flatten(1).mean(1)


def two_point(x: Field) -> Float[Tensor, "batch times"]:
    """Zero-momentum correlator of each configuration along direction 0, for t = 0 … L0/2.

        C(t) = V_s L0⁻¹ Σ_{t0} φ̄(t0) φ̄(t0 + t),   φ̄(t) the mean over the V_s = V/L0 sites of a time slice

    so that ⟨C(t)⟩ = Σ_x⃗ ⟨φ_(0,0) φ_(t,x⃗)⟩, and Σ_t C(t) over a whole period is V M².
    """
    length = x.shape[1]
    spatial_volume = x[0].numel() // length
    slices = x.flatten(2).mean(2) if x.ndim > 2 else x
    power = torch.fft.rfft(slices).abs().square()
    return torch.fft.irfft(power, n=length)[:, : length // 2 + 1] * (spatial_volume / length)


def lowest_mode(x: Field) -> LogProb:
    """|Σ_x exp(−2πi x_μ/L_μ) φ_x|²/V of each configuration, the mean over the directions μ that are longest.

    On a cubic lattice these are all directions; on another one only the longest hold the lowest momentum. Its
    expectation value is G(k) of `correlation_length`, whose G(0) is V⟨M²⟩.
    """
    sites, longest = x[0].numel(), max(x.shape[1:])
    directions = [axis for axis in range(1, x.ndim) if x.shape[axis] == longest]
    modes = [torch.fft.rfft(x.movedim(axis, 1).flatten(2).sum(2) if x.ndim > 2 else x) for axis in directions]
    return torch.stack([mode[:, 1 % longest].abs().square() for mode in modes]).mean(0) / sites


def susceptibility(m_squared: Expectation, m_abs: Expectation, volume: int) -> Expectation:
    """χ = V (⟨M²⟩ − ⟨|M|⟩²), the connected susceptibility of a finite volume."""
    return volume * (m_squared - m_abs**2)


def binder_cumulant(m_squared: Expectation, m_fourth: Expectation) -> Expectation:
    """U = 1 − ⟨M⁴⟩ / (3 ⟨M²⟩²): 0 for a Gaussian, 2/3 deep in the broken phase."""
    return 1 - m_fourth / (3 * m_squared**2)


def correlation_length(zero_mode: Expectation, lowest_mode: Expectation, length: int) -> Expectation:
    """Second-moment correlation length ξ = √(G(0)/G(k) − 1) / (2 sin(π/L)), with k = 2π/L.

    Args:
        zero_mode: G(0) = V⟨M²⟩.
        lowest_mode: G(k), the expectation value of `lowest_mode`.
        length: L ≥ 2, the longest side.

    Returns:
        ξ in lattice units; nan where G(k) > G(0).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(zero_mode / lowest_mode - 1) / (2 * math.sin(math.pi / length))


def effective_mass(correlator: Expectation) -> Expectation:
    """Effective masses m(t) = arccosh[(C(t−1) + C(t+1)) / (2 C(t))] for t = 1 … T−2.

    The correlator is given for t = 0 … T−1. For one state, C(t) ∝ cosh(m (t − L0/2)), they are m at every t;
    they are nan where the argument is below 1.
    """
    ratio = (correlator[:-2] + correlator[2:]) / (2 * correlator[1:-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.arccosh(ratio)
