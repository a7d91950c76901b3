"""The observables of two-dimensional U(1) links, with fermions or without, from what is recorded of them."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.autocorrelation import measure
from latflow.analysis.fits import effective_masses
from latflow.analysis.measurement import Measurement
from latflow.analysis.weights import scaled_weight

SECTORS = (0, 1, 2, 3)
"""The |Q| whose probabilities a table has."""
_PION_MASSES = (1, 2, 3, 4)

LABELS = {
    "log_z": "log Z",
    "plaquette": "⟨cos P⟩",
    "charge": "⟨Q⟩",
    "charge_squared": "⟨Q²⟩",
    "topological_susceptibility": "⟨Q²⟩/V",
    **{f"P_charge_{n}": f"P(|Q| = {n})" if n else "P(Q = 0)" for n in SECTORS},
    "polyakov": "Re⟨L⟩ (Polyakov loop)",
    "action_density": "⟨S⟩/V",
    "condensate": "⟨Tr D⁻¹⟩/V (condensate)",
    "sign": "⟨σ⟩, σ = sign det D",
    **{f"pion_mass_{t}": f"m_eff({t}) of the pion" for t in _PION_MASSES},
}
"""What is known of a theory of links by name, and how a table writes it, in its order."""

NEEDED = ("action", "plaquette", "topological_charge", "polyakov")
"""The series from which it is made; with fermions there are those of `FERMIONIC`, too."""

FERMIONIC = ("condensate", "sign", "pion")

MAY_BE_UNDEFINED = tuple(f"pion_mass_{t}" for t in _PION_MASSES)
"""Functions of averages which are nan where the noise carries these out of their domain."""

RESTS_ON: dict[str, Callable[[float], float]] = {
    **{f"P_charge_{n}": lambda share: min(abs(share), abs(1 - share)) for n in SECTORS},
    "charge_squared": abs,
    "topological_susceptibility": abs,
    "sign": lambda average: 1 - abs(average),
}
"""Averages that a few rare configurations decide, and what these contribute at each value of the average."""


def gauge_summary(
    arrays: dict[str, np.ndarray],
    lattice: Sequence[int],
    log_weight: ArrayLike | None,
    factor: ArrayLike | None,
) -> dict[str, Measurement]:
    """The averages of a theory of links, by the names of `LABELS`.

    Args:
        arrays: the series `NEEDED`, and those of `FERMIONIC` where there are fermions.
        lattice: side lengths.
        log_weight: as in `measure`.
        factor: the sign of det D where averages are reweighted with it, as for an odd number of flavours.
            ⟨σ⟩ itself never is.
    """
    volume = math.prod(lattice)
    charge = np.asarray(arrays["topological_charge"])

    def average(values: np.ndarray, name: str) -> Measurement:
        return measure(values, log_weight, name, factor=factor)

    squared = average(charge**2, "topological_charge")
    finest = _one_count(charge.size, squared.tau_int, log_weight, factor)
    susceptibility = average(charge**2 / volume, "topological_charge")
    result = {
        "plaquette": average(arrays["plaquette"], "plaquette"),
        "charge": _no_finer(average(charge, "topological_charge"), finest),
        "charge_squared": _no_finer(squared, finest),
        "topological_susceptibility": _no_finer(susceptibility, finest / volume),
    }
    for n in SECTORS:
        share = average((np.abs(charge) == n).astype(np.float64), "topological_charge")
        result[f"P_charge_{n}"] = _no_finer(share, finest)
    result["polyakov"] = average(arrays["polyakov"], "polyakov")
    result["action_density"] = average(arrays["action"] / volume, "action")
    if "condensate" in arrays:
        result["condensate"] = average(arrays["condensate"], "condensate")
        sign = measure(arrays["sign"], log_weight, "sign")
        result["sign"] = _no_finer(sign, 2 * _one_count(charge.size, squared.tau_int, log_weight, None))
        if arrays["pion"].shape[-1] >= 3:
            masses = effective_masses(arrays["pion"], log_weight, factor)
            result |= {f"pion_mass_{t}": m for t, m in zip(_PION_MASSES, masses, strict=False)}
    return result


def _one_count(
    n: int, tau_int: float | None, log_weight: ArrayLike | None, factor: ArrayLike | None
) -> float:
    """What one of n entries contributes to a share, were they independent: 2τ Σr² / (Σr)², r the weights."""
    weight = np.ones(n)
    if log_weight is not None:
        weight = weight * scaled_weight(log_weight).reshape(-1)
    if factor is not None:
        weight = weight * np.asarray(factor, dtype=np.float64).reshape(-1)
    return float(2 * (tau_int or 0.5) * np.sum(weight**2) / np.sum(weight) ** 2)


def _no_finer(share: Measurement, finest: float) -> Measurement:
    """The share with an error of at least one count: what was never seen is not known to be zero."""
    if share.error >= finest or math.isnan(share.error):
        return share
    return Measurement(share.value, finest, share.tau_int, share.tau_int_error, share.window, share.n)
