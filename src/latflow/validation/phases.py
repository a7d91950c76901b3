"""Whether each Markov chain of spins has been in both phases, M > 0 and M < 0."""

import numpy as np

from latflow.actions import Action
from latflow.analysis import measure
from latflow.validation.checks import Check
from latflow.validation.sectors import LEAST_EXPECTED


def phase_checks(action: Action, chains: dict[str, np.ndarray]) -> list[Check]:
    """A check of each sampler of spins: no phase is missing that should have been visited.

    Without a field both signs of M have equal probability. As many independent draws of |M| as a sampler
    makes, N/2τ, are how often it could have seen either sign; a sampler, or one chain for itself, that could
    have seen each `LEAST_EXPECTED` times and never saw one of them does not move between the phases.

    Args:
        action: the theory; there is no check unless it is of spins, and symmetric.
        chains: for each sampler ("the network's chain", …) the magnetisations, (steps, chains).
    """
    if action.kind != "spin" or not action.z2_symmetric:
        return []
    return [_check(name, np.asarray(m).reshape(len(m), -1)) for name, m in chains.items() if len(m)]


def _check(name: str, m: np.ndarray) -> Check:
    title, n_chains = f"both phases in {name}", m.shape[1]
    tau = measure(np.abs(m), name="|M|").tau_int or 0.5
    each = m.shape[0] / max(2 * tau, 1.0) / 2
    if each * n_chains < LEAST_EXPECTED:
        return Check(title, True, f"neither is expected {LEAST_EXPECTED:.0f} times in so short a chain")
    up, down = (m > 0).any(0), (m < 0).any(0)
    if not (up.any() and down.any()):
        return Check(title, False, f"M {'<' if up.any() else '>'} 0 was never seen: one phase is lost")
    stuck = int((~(up & down)).sum())
    seen = "M > 0 and M < 0 were seen"
    if each < LEAST_EXPECTED or n_chains == 1:
        return Check(title, True, seen)
    if stuck:
        detail = f"{stuck} of {n_chains} chains never left their phase: the sampler is frozen in it"
        return Check(title, False, detail)
    return Check(title, True, f"{seen} by each of {n_chains} chains")
