"""Observables: what is measured on each configuration, and what is made of the expectation values."""

from latflow.observables.scalar import (
    RECORDED,
    binder_cumulant,
    correlation_length,
    effective_mass,
    lowest_mode,
    magnetization,
    phi_squared,
    recorded,
    susceptibility,
    two_point,
)

__all__ = [
    "RECORDED",
    "binder_cumulant",
    "correlation_length",
    "effective_mass",
    "lowest_mode",
    "magnetization",
    "phi_squared",
    "recorded",
    "susceptibility",
    "two_point",
]
