"""The observables of a scalar field, from the series that are recorded of it."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.autocorrelation import derive, measure
from latflow.analysis.measurement import Measurement
from latflow.observables import binder_cumulant, correlation_length, effective_mass, susceptibility

LABELS = {
    "log_z": "log Z",
    "phi_squared": "⟨φ²⟩",
    "abs_magnetization": "⟨|M|⟩",
    "magnetization": "⟨M⟩",
    "sign_of_magnetization": "⟨sign M⟩",
    "V_magnetization_squared": "V⟨M²⟩",
    "susceptibility": "V(⟨M²⟩−⟨|M|⟩²)",
    "binder_cumulant": "Binder cumulant",
    "action_density": "⟨S⟩/V",
    "correlation_length": "ξ (second moment)",
    "effective_mass_1": "m_eff(1)",
}
"""What is known of a scalar field by name, and how a table writes it, in its order."""

NEEDED = ("action", "magnetization", "phi_squared", "two_point", "lowest_mode")
"""The series from which it is made."""

MAY_BE_UNDEFINED = ("correlation_length", "effective_mass_1")
"""Functions of averages which are nan where the noise carries these out of their domain."""


def scalar_summary(
    arrays: dict[str, np.ndarray],
    lattice: Sequence[int],
    log_weight: ArrayLike | None,
    factor: ArrayLike | None,
) -> dict[str, Measurement]:
    """The averages of a scalar field, by the names of `LABELS` but for log Z and the sign of M.

    Args:
        arrays: the series `NEEDED`.
        lattice: side lengths.
        log_weight: as in `measure`.
        factor: as in `measure`.
    """
    volume, longest, m = math.prod(lattice), max(lattice), arrays["magnetization"]

    def average(values: np.ndarray, name: str) -> Measurement:
        return measure(values, log_weight, name, factor=factor)

    result = {
        "phi_squared": average(arrays["phi_squared"], "phi_squared"),
        "abs_magnetization": average(abs(m), "magnetization"),
        "magnetization": average(m, "magnetization"),
        "V_magnetization_squared": average(volume * m**2, "magnetization"),
        "susceptibility": derive(
            lambda m_squared, m_abs: susceptibility(m_squared, m_abs, volume),
            m**2,
            abs(m),
            log_weight=log_weight,
            factor=factor,
        ),
        "binder_cumulant": derive(binder_cumulant, m**2, m**4, log_weight=log_weight, factor=factor),
        "action_density": average(arrays["action"] / volume, "action"),
    }
    if longest > 1:
        result["correlation_length"] = derive(
            lambda zero_mode, lowest_mode: correlation_length(zero_mode, lowest_mode, longest),
            volume * m**2,
            arrays["lowest_mode"],
            log_weight=log_weight,
            factor=factor,
        )
    if lattice[0] >= 4:
        first_times = arrays["two_point"].reshape(len(m), -1, arrays["two_point"].shape[-1])[..., :3]
        result["effective_mass_1"] = derive(
            lambda c: effective_mass(c)[0], first_times, log_weight=log_weight, factor=factor
        )
    return result
