"""Observables of fields with a number at each site: functions of each configuration."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.types import Field, LogProb


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
    spatial_volume = math.prod(x.shape[1:]) // length
    slices = x.flatten(2).mean(2) if x.ndim > 2 else x
    power = torch.fft.rfft(slices).abs().square()
    return torch.fft.irfft(power, n=length)[:, : length // 2 + 1] * (spatial_volume / length)


def lowest_mode(x: Field) -> LogProb:
    """|Σ_x exp(−2πi x_μ/L_μ) φ_x|²/V of each configuration, the mean over the directions μ that are longest.

    On a cubic lattice these are all directions; on another one only the longest hold the lowest momentum. Its
    expectation value is G(k) of `correlation_length`, whose G(0) is V⟨M²⟩.
    """
    sites, longest = math.prod(x.shape[1:]), max(x.shape[1:])
    directions = [axis for axis in range(1, x.ndim) if x.shape[axis] == longest]
    modes = [torch.fft.rfft(x.movedim(axis, 1).flatten(2).sum(2) if x.ndim > 2 else x) for axis in directions]
    return torch.stack([mode[:, 1 % longest].abs().square() for mode in modes]).mean(0) / sites
