"""The table of results of a run: the observables of its kind of field, each with its error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis import gauge_summary, scalar_summary, spin_summary
from latflow.analysis.measurement import Measurement

_Summary = Callable[
    [dict[str, np.ndarray], Sequence[int], ArrayLike | None, ArrayLike | None], dict[str, Measurement]
]


@dataclass(frozen=True)
class Kind:
    """What is made of the series of one kind of field.

    Attributes:
        labels: every observable by name, and how a table writes it, in its order.
        needed: the series without which nothing can be made.
        optional: those that some of its theories have.
        may_be_undefined: functions of averages which are nan where noise carries these out of their domain.
        rests_on: for averages that a few rare configurations decide, what these contribute at a value of it.
        summarise: (series, lattice, log-weight, factor) to the observables.
    """

    labels: dict[str, str]
    needed: tuple[str, ...]
    optional: tuple[str, ...]
    may_be_undefined: tuple[str, ...]
    rests_on: Mapping[str, Callable[[float], float]]
    summarise: _Summary


KINDS = {
    "scalar": Kind(
        scalar_summary.LABELS,
        scalar_summary.NEEDED,
        (),
        scalar_summary.MAY_BE_UNDEFINED,
        {},
        scalar_summary.scalar_summary,
    ),
    "gauge": Kind(
        gauge_summary.LABELS,
        gauge_summary.NEEDED,
        gauge_summary.FERMIONIC,
        gauge_summary.MAY_BE_UNDEFINED,
        gauge_summary.RESTS_ON,
        gauge_summary.gauge_summary,
    ),
    "spin": Kind(
        spin_summary.LABELS,
        spin_summary.NEEDED,
        (),
        spin_summary.MAY_BE_UNDEFINED,
        {},
        spin_summary.spin_summary,
    ),
}
"""Each kind of field, by `Action.kind`."""

LABELS = {name: label for kind in KINDS.values() for name, label in kind.labels.items()}
"""All observables by name, and how a table writes them; a name means the same for every kind."""


def summary(
    series: Mapping[str, ArrayLike],
    lattice: Sequence[int],
    log_weight: ArrayLike | None = None,
    kind: str = "scalar",
    factor: ArrayLike | None = None,
) -> dict[str, Measurement]:
    """The observables of a kind of field.

    Args:
        series: what `observables.recorded` gave at each step, (steps,) or (steps, chains), and correlators
            with one dimension more; other entries are ignored.
        lattice: side lengths.
        log_weight: given when the series are independent draws to be weighted, as in `measure`.
        kind: of the field, `Action.kind`.
        factor: with which averages are reweighted, as in `measure`: the sign of the determinant for an odd
            number of flavours.

    Returns:
        For a scalar field "phi_squared" ⟨φ²⟩, "abs_magnetization" ⟨|M|⟩, "magnetization" ⟨M⟩,
        "V_magnetization_squared" V⟨M²⟩, "susceptibility" V(⟨M²⟩−⟨|M|⟩²), "binder_cumulant", "action_density"
        ⟨S⟩/V; "correlation_length" (of the second moment) when a side is longer than 1; "effective_mass_1",
        from t = 0, 1, 2, when L0 ≥ 4.

        For links "plaquette" ⟨cos P⟩, "charge" ⟨Q⟩, "charge_squared" ⟨Q²⟩, "topological_susceptibility"
        ⟨Q²⟩/V, "P_charge_0" to "P_charge_3" the probabilities of |Q|, "polyakov", "action_density"; with
        fermions "condensate", "sign", and the effective masses "pion_mass_1", … of the pion.

        For spins "energy" ⟨E⟩/V of all bonds, "action_density", "specific_heat", and "abs_magnetization" to
        "binder_cumulant" and "correlation_length" as for a scalar field; of weighted draws
        "free_energy_density" −log Z/V and "entropy" log Z + ⟨S⟩, too.

    Raises:
        ValueError: for an unknown kind, when a series is missing, and as `measure`.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a field of kind {' or '.join(KINDS)}, got {kind!r}")
    of_kind = KINDS[kind]
    if missing := [name for name in of_kind.needed if name not in series]:
        raise ValueError(f"expected the series {', '.join(of_kind.needed)}, got none of {', '.join(missing)}")
    wanted = [*of_kind.needed, *(name for name in of_kind.optional if name in series)]
    arrays = {name: np.asarray(series[name], dtype=np.float64) for name in wanted}
    return of_kind.summarise(arrays, lattice, log_weight, factor)
