"""Which couplings configurations have: those for which they obey the Schwinger–Dyson identities best."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.analysis import measure
from latflow.fields.identities import Identities
from latflow.measurement import Measurement
from latflow.theories import Action
from latflow.validation.checks import Check
from latflow.validation.identities import asked_sites, evaluated, in_words, significance
from latflow.validation.table import MAX_PULL

_MOST_OF_ONE_KIND = 24
"""Identities that are put together, of each title: with more, the noise of their covariance grows."""
_SHIFT = 1e-3


def coupling_checks(action: Action, fields: Tensor, seed: int = 0) -> Iterator[Check]:
    """For each coupling constant of a theory, whether the configurations have the one that is said.

    Each identity ⟨I_a⟩ = 0 is off by δ ∂⟨I_a⟩/∂c where a coupling c is off by δ. Of all combinations of them
    that with w = C⁻¹ ∂⟨I⟩/∂c, C the covariance of the I_a, tells δ best:

        δ = −⟨w · I⟩ / (w · ∂⟨I⟩/∂c)

    with the error of the mean of w · I by the Γ-method. The other couplings are held as they are.

    Args:
        action: S.
        fields: (steps, chains, …).
        seed: of what is random in identities.
    """
    for name, (said, found, deviation) in fitted_couplings(action, fields, seed).items():
        apart = in_words(found.pull(said), deviation)
        detail = f"{found}, said to be {said:.8g}, {apart}".replace("-", "−")
        if deviation > MAX_PULL:
            detail += ": these configurations are of another coupling, or of another action"
        yield Check(f"Schwinger–Dyson identities fit {name}", deviation <= MAX_PULL, detail)


def fitted_couplings(
    action: Action, fields: Tensor, seed: int = 0
) -> dict[str, tuple[float, Measurement, float]]:
    """Of each coupling what is said, what fits best, and how many standard deviations these are apart.

    Linear in what a coupling is off by, so that one far away is not found exactly. Couplings on which no
    identity depends are left out, as are those that the theory does not let change.
    """
    sites, found = asked_sites(action, fields, seed), {}
    base = _series(action, fields, sites, seed)
    for name, value in action.coupling_constants.items():
        step = _SHIFT * max(abs(value), 0.1)
        with suppress(ValueError):  # of a theory that has no neighbour there
            moved = _series(action.at(**{name: value + step}), fields, sites, seed)
            if (shifts := _shifts(base, (moved - base) / step, fields.shape[:2])) is not None:
                shift = measure(shifts, name="the identities")
                if shift.error > 0:
                    degrees = shifts.size / (2 * (shift.window or 0) + 1)
                    deviation = significance(shift.pull(0.0), 1, degrees)
                    found[name] = value, Measurement(value + shift.value, shift.error), deviation
    return found


def _shifts(series: np.ndarray, slopes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Numbers of each configuration whose mean is δ, (steps, chains); None where no identity tells it.

    The configurations of each half of the steps are put together as is best for the other half: a combination
    that is made of the noise that it is to weigh out is biased, and says too small an error.
    """
    steps, chains = shape
    first = np.arange(len(series)) < steps // 2 * chains
    found = np.empty(len(series))
    for half in (first, ~first):
        if (weight := _weights(series[~half], slopes[~half].mean(0))) is None:
            return None
        found[half] = -series[half] @ weight
    return found.reshape(shape)


def _weights(series: np.ndarray, slope: np.ndarray) -> np.ndarray | None:
    """w = C⁻¹ ∂⟨I⟩/∂c of some configurations, of a length at which w · ∂⟨I⟩/∂c = 1.

    C, in units of its diagonal, is drawn towards one by the number of identities over that of configurations.
    """
    spread, (number, identities) = series.std(0), series.shape
    used = (spread > 0) & (np.abs(slope) > 0)
    if not used.any():
        return None
    direction = slope[used] / spread[used]
    correlation = np.corrcoef(series[:, used], rowvar=False).reshape(len(direction), -1)
    shrunk = correlation + identities / number * np.eye(len(direction))
    weight = np.linalg.solve(shrunk, direction)
    full = np.zeros(identities)
    full[used] = weight / spread[used] / float(weight @ direction)
    return full


def _series(action: Action, fields: Tensor, sites: Tensor, seed: int) -> np.ndarray:
    """The identities of each configuration that are put together, (configurations, identities)."""

    def evaluate(x: Tensor, generator: Generator) -> Identities:
        return action.kind.identities(action, x, generator, sites)

    parts = []
    for found in evaluated(evaluate, fields, seed):
        columns = [values.reshape(len(values), -1)[:, :_MOST_OF_ONE_KIND] for values in found.values()]
        parts.append(torch.cat([one.double() for one in columns], 1) if columns else torch.zeros(0, 0))
    return torch.cat(parts).numpy()
