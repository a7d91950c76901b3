"""Averages at neighbouring couplings from configurations of one, and whether these overlap with those."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from latflow.analysis import (
    effective_sample_size,
    largest_weight_share,
    measure,
    pareto_tail_index,
    scaled_weight,
    summary,
)
from latflow.measurement import Measurement
from latflow.theories import Action
from latflow.validation.doubts import FEWEST, LARGEST_SHARE, PARETO_LIMIT
from latflow.validation.evidence import Series, measured_series
from latflow.validation.ways import FEWEST_FOR_A_TAIL


@dataclass(frozen=True)
class AtCouplings:
    """A theory at other couplings, by configurations of the same theory at its own.

    Attributes:
        couplings: the other values, by name.
        labels: of the observables, by name.
        numbers: their averages ⟨O w⟩/⟨w⟩, w = exp(S − S′), by name.
        ess: (Σw)² / (N Σw²), the share of the configurations that count.
        pareto_k: the tail index of the weights; None of fewer than 25.
        independent: configurations that count, over 2τ of the action.
        warnings: why these averages are not to be trusted.
    """

    couplings: Mapping[str, float]
    labels: Mapping[str, str]
    numbers: Mapping[str, Measurement]
    ess: float
    pareto_k: float | None
    independent: float
    warnings: tuple[str, ...]

    @property
    def title(self) -> str:
        """The couplings in words: "beta = 0.69"."""
        return ", ".join(f"{name} = {value:g}" for name, value in self.couplings.items()).replace("-", "−")

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain numbers and strings."""
        return {
            "couplings": dict(self.couplings),
            "ess": self.ess,
            "pareto_k": self.pareto_k,
            "independent": self.independent,
            "warnings": list(self.warnings),
            "values": {name: asdict(value) for name, value in self.numbers.items()},
        }


def at_couplings(
    action: Action, fields: Tensor, series: Series, couplings: Mapping[str, float]
) -> AtCouplings:
    """What a theory has at other couplings, by reweighting configurations of its own.

        ⟨O⟩′ = ⟨O w⟩ / ⟨w⟩,    w = exp(S − S′)

    with errors by the Γ-method, in which O w and w vary together.

    Args:
        action: S.
        fields: the configurations, (steps, chains, …).
        series: what was measured of them, with "action".
        couplings: of S′, by name; the others stay.

    Raises:
        ValueError: for a coupling that the theory does not have, or a value that it refuses.
    """
    other = action.at(**couplings)
    other.check_proper()
    there = measured_series(other, fields)
    log_weight = np.asarray(series["action"]) - np.asarray(there["action"])
    weight = scaled_weight(log_weight)
    factor = weight if other.reweighting is None else weight * there[other.reweighting]
    numbers = summary(there, other.observables, factor=factor)
    ess = effective_sample_size(log_weight)
    tail = pareto_tail_index(log_weight) if log_weight.size >= FEWEST_FOR_A_TAIL else None
    tau = measure(series["action"], name="the action").tau_int or 0.5
    independent = ess * log_weight.size / max(2 * tau, 1.0)
    labels = {one.name: one.label for one in other.observables if one.name in numbers}
    return AtCouplings(
        dict(couplings),
        labels,
        numbers,
        ess,
        tail,
        independent,
        tuple(_overlap(ess, tail, independent, largest_weight_share(log_weight))),
    )


def _overlap(ess: float, tail: float | None, independent: float, largest: float) -> list[str]:
    """Why the configurations may not reach what is typical at the other couplings."""
    found = []
    if tail is not None and tail > PARETO_LIMIT:
        found.append(f"the Pareto tail index of the weights is {tail:.2f}, above {PARETO_LIMIT}")
    if largest > LARGEST_SHARE:
        found.append(f"one configuration carries {largest:.0%} of all weight")
    if independent < FEWEST:
        found.append(
            f"an ESS of {ess:.3g} leaves {independent:.1f} independent configurations, expected at least "
            f"{FEWEST:.0f}"
        )
    return found
