"""Whether each Markov chain has been in every topological sector in which it should have been."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latflow.actions import Action
from latflow.analysis import measure
from latflow.validation.checks import Check
from latflow.validation.known import charge_probability

LEAST_EXPECTED = 25.0
"""A sector that is expected this often, in independent draws, must have been visited."""

_CHARGE = "topological_charge"

Share = Callable[[int], float]
"""The probability of |Q| = n."""


@dataclass(frozen=True)
class _Visits:
    """The charges of one sampler, (steps, chains), and as how many independent draws they count."""

    charge: np.ndarray
    independent: float

    @classmethod
    def of(cls, charge: np.ndarray) -> "_Visits":
        """Independent draws are those of Q², N/2τ; a chain that never moved counts in full."""
        history = np.abs(np.asarray(charge, dtype=np.float64).reshape(len(charge), -1))
        tau = measure(history**2, name=_CHARGE).tau_int or 0.5
        return cls(history, history.size / max(2 * tau, 1.0))

    @property
    def highest(self) -> int:
        return int(self.charge.max())

    def share(self, n: int) -> float:
        """The share of |Q| = n, zero where fewer counts than `LEAST_EXPECTED` speak for it."""
        found = float(np.mean(self.charge == n))
        return found if found * self.independent >= LEAST_EXPECTED else 0.0


def sector_checks(action: Action, chains: dict[str, np.ndarray]) -> list[Check]:
    """A check of each chain: no topological sector is missing that should be there.

    What should be there is known from the exact P(|Q| = n), or else from the other chains. It is asked of all
    chains of a sampler together, and of each one for itself, which can be asked for less.

    Args:
        action: the theory.
        chains: for each sampler ("the flow's chain", "HMC") the charges, (steps, chains).
    """
    visits = {name: _Visits.of(charge) for name, charge in chains.items() if len(charge)}
    exactly = charge_probability(action, 0) is not None
    checks = []
    for name, mine in visits.items():
        if exactly:
            checks.append(_check(name, mine, lambda n: charge_probability(action, n) or 0.0, "exact P(|Q|)"))
            continue
        for other, theirs in visits.items():
            if other != name:
                checks.append(_check(name, mine, theirs.share, other))
    return checks


def _check(name: str, visits: _Visits, share: Share, source: str) -> Check:
    """Sectors come one after the other until none is to be expected; from |Q| = 1 on they become rarer."""
    together, alone = [], []
    n_chains = visits.charge.shape[1]
    for n in itertools.count():
        expected = share(n) * visits.independent
        if n and expected < LEAST_EXPECTED:
            break
        if expected >= LEAST_EXPECTED:
            together.append(n)
        if expected >= LEAST_EXPECTED * n_chains:
            alone.append(n)
    missing = [n for n in together if not np.any(visits.charge == n)]
    stuck = sum(not all(np.any(chain == n) for n in alone) for chain in visits.charge.T)
    title = f"topological sectors of {name}, by {source}"
    if missing or stuck:
        faults = [f"|Q| = {n} never visited" for n in missing]
        if stuck:
            faults.append(f"{stuck} of {n_chains} chains miss a sector of {_up_to(alone)}")
        return Check(title, False, "; ".join(faults) + ": the sampler is frozen or has lost these sectors")
    if not together:
        return Check(title, True, f"none is expected {LEAST_EXPECTED:.0f} times in so short a chain")
    detail = f"{_up_to(together)} visited"
    if alone and n_chains > 1:
        detail += f", {_up_to(alone)} by each of {n_chains} chains"
    return Check(title, True, detail + f"; the highest |Q| is {visits.highest}")


def _up_to(sectors: list[int]) -> str:
    return f"|Q| ≤ {sectors[-1]}" if sectors[-1] else "Q = 0"
