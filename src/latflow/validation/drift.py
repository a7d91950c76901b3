"""Whether each Markov chain has lost its start: the beginning of its record against the end."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from latflow.analysis import measure, thermalisation_time
from latflow.validation.checks import Check
from latflow.validation.evidence import MarkovChain

MAX_DRIFT = 5.0
"""A difference of more standard deviations is a drift."""

_LEAST_STEPS = 40
"""Of a record that is long enough for a beginning and an end with errors."""


def drift_checks(chains: Sequence[MarkovChain]) -> Iterator[Check]:
    """A check of each chain: the action has the same average at the beginning of the record as at its end.

        pull = ( ⟨S⟩_first − ⟨S⟩_last ) / √( σ² (N_first + N_last) / N_first ),    σ² = 2τ Γ(0) / N_last

    where "first" is the first quarter of the steps and "last" the second half, from which alone σ, the error
    of its average, is taken: a drift at the beginning would hide itself in the fluctuations there. No error
    is smaller than that of independent draws with the spread of the whole record, so that a last half which
    hardly moves does not make a drift of a rare fluctuation.

    Args:
        chains: with the series "action", (steps, chains), and the steps of thermalisation before the record.
    """
    for chain in chains:
        history = np.asarray(chain.series["action"], dtype=np.float64)
        history = history.reshape(len(history), -1)
        if len(history) >= _LEAST_STEPS and np.isfinite(history).all():
            yield _check(chain.words.sentence, history, chain.thermalisation)


def _check(name: str, history: np.ndarray, thermalisation: int) -> Check:
    title = f"{name} has lost its start"
    first, last = history[: len(history) // 4], history[len(history) // 2 :]
    end = measure(last, name="the action")
    share = (first.size + last.size) / first.size
    own = 0.0 if math.isnan(end.error) else end.error  # that of a half which did not move
    error = max(own * math.sqrt(share), float(history.std()) * math.sqrt(share / last.size))
    difference = float(first.mean()) - end.value
    pull = difference / error if error else 0.0
    detail = f"the action of the first quarter of the steps lies {pull:+.1f} σ from that of the last half"
    if abs(pull) <= MAX_DRIFT:
        return Check(title, True, detail)
    reached = thermalisation_time(history)
    detail += (
        f", and it reaches that at step {reached}: the chain still drifts, expected more thermalisation than "
        f"{thermalisation} steps"
    )
    return Check(title, False, detail)
