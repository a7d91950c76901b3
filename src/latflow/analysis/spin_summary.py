"""The observables of Ising spins, from the series that are recorded of them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.autocorrelation import derive, measure
from latflow.analysis.measurement import Measurement
from latflow.analysis.scalar_summary import LABELS as OF_SCALARS
from latflow.analysis.weights import entropy, free_energy
from latflow.observables import binder_cumulant, correlation_length, specific_heat, susceptibility

LABELS = {
    "log_z": "log Z",
    "free_energy_density": "F/V",
    "entropy": "entropy",
    "energy": "⟨E⟩/V",
    "action_density": "⟨S⟩/V",
    "specific_heat": "specific heat",
    **{
        name: OF_SCALARS[name]
        for name in (
            "abs_magnetization", "magnetization", "sign_of_magnetization", "V_magnetization_squared",
            "susceptibility", "binder_cumulant", "correlation_length",
        )
    },
}  # fmt: skip
"""What is known of spins by name, and how a table writes it, in its order.

F = −log Z, the entropy is log Z + ⟨S⟩, E = −Σ s s′ over all bonds, the specific heat (⟨S²⟩ − ⟨S⟩²)/V.
"""

NEEDED = ("action", "magnetization", "energy", "lowest_mode")
"""The series from which it is made."""

MAY_BE_UNDEFINED = ("correlation_length",)
"""Functions of averages which are nan where the noise carries these out of their domain."""


def spin_summary(
    arrays: dict[str, np.ndarray],
    lattice: Sequence[int],
    log_weight: ArrayLike | None,
    factor: ArrayLike | None,
) -> dict[str, Measurement]:
    """The averages of spins, by the names of `LABELS` but for log Z and the sign of M.

    The free energy and the entropy are those of weighted draws alone: a Markov chain does not know log Z.

    Args:
        arrays: the series `NEEDED`.
        lattice: side lengths, each at least 2.
        log_weight: as in `measure`.
        factor: as in `measure`.
    """
    volume, longest, m, action = math.prod(lattice), max(lattice), arrays["magnetization"], arrays["action"]

    def average(values: np.ndarray, name: str) -> Measurement:
        return measure(values, log_weight, name, factor=factor)

    result = {}
    if log_weight is not None:
        f = free_energy(log_weight)
        result["free_energy_density"] = Measurement(f.value / volume, f.error / volume, n=f.n)
        result["entropy"] = entropy(log_weight, action)
    # S is a sum of many bonds: about its mean its variance loses no digits
    shifted = action - action.mean()
    return result | {
        "energy": average(arrays["energy"], "energy"),
        "action_density": average(action / volume, "action"),
        "specific_heat": derive(
            lambda s, s_squared: specific_heat(s, s_squared, volume),
            shifted,
            shifted**2,
            log_weight=log_weight,
            factor=factor,
        ),
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
        "correlation_length": derive(
            lambda zero_mode, lowest_mode: correlation_length(zero_mode, lowest_mode, longest),
            volume * m**2,
            arrays["lowest_mode"],
            log_weight=log_weight,
            factor=factor,
        ),
    }
