"""The table of results of a run: the observables of its kind of field, each with its error."""

import math
from collections.abc import Mapping, Sequence

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

_NEEDED = ("action", "magnetization", "phi_squared", "two_point", "lowest_mode")


def summary(
    series: Mapping[str, ArrayLike], lattice: Sequence[int], log_weight: ArrayLike | None = None
) -> dict[str, Measurement]:
    """The observables of a scalar field.

    Args:
        series: what `observables.recorded` gave at each step, (steps,) or (steps, chains), and "two_point"
            with one dimension more; other entries are ignored.
        lattice: side lengths.
        log_weight: given when the series are independent draws to be weighted, as in `measure`.

    Returns:
        "phi_squared" ⟨φ²⟩, "abs_magnetization" ⟨|M|⟩, "magnetization" ⟨M⟩, "V_magnetization_squared" V⟨M²⟩,
        "susceptibility" V(⟨M²⟩−⟨|M|⟩²), "binder_cumulant", "action_density" ⟨S⟩/V; "correlation_length" (of
        the second moment) when a side is longer than 1; "effective_mass_1", from t = 0, 1, 2, when L0 ≥ 4.

    Raises:
        ValueError: when a series is missing, and as `measure`.
    """
    missing = [name for name in _NEEDED if name not in series]
    if missing:
        raise ValueError(f"expected the series {', '.join(_NEEDED)}, got none of {', '.join(missing)}")
    arrays = {name: np.asarray(series[name], dtype=np.float64) for name in _NEEDED}
    volume, longest, m = math.prod(lattice), max(lattice), arrays["magnetization"]

    result = {
        "phi_squared": measure(arrays["phi_squared"], log_weight, "phi_squared"),
        "abs_magnetization": measure(abs(m), log_weight, "magnetization"),
        "magnetization": measure(m, log_weight, "magnetization"),
        "V_magnetization_squared": measure(volume * m**2, log_weight, "magnetization"),
        "susceptibility": derive(
            lambda m_squared, m_abs: susceptibility(m_squared, m_abs, volume),
            m**2,
            abs(m),
            log_weight=log_weight,
        ),
        "binder_cumulant": derive(binder_cumulant, m**2, m**4, log_weight=log_weight),
        "action_density": measure(arrays["action"] / volume, log_weight, "action"),
    }
    if longest > 1:
        result["correlation_length"] = derive(
            lambda zero_mode, lowest_mode: correlation_length(zero_mode, lowest_mode, longest),
            volume * m**2,
            arrays["lowest_mode"],
            log_weight=log_weight,
        )
    if lattice[0] >= 4:
        first_times = arrays["two_point"].reshape(len(m), -1, arrays["two_point"].shape[-1])[..., :3]
        result["effective_mass_1"] = derive(
            lambda c: effective_mass(c)[0], first_times, log_weight=log_weight
        )
    return result
