"""Whether each Markov chain has been in every sector in which it should have been."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from latflow.analysis import measure
from latflow.observables.base import Observable, Sectors
from latflow.theories import Action
from latflow.validation.checks import Check
from latflow.validation.evidence import MarkovChain

LEAST_EXPECTED = 25.0
"""A sector that is expected this often, in independent draws, must have been visited."""

Share = Callable[[int], float]
"""The probability of a sector by its number."""


@dataclass(frozen=True)
class _Visits:
    """The sectors of one sampler at each step, (steps, chains), and how many independent draws they are."""

    number: np.ndarray
    independent: float

    @classmethod
    def of(cls, sectors: Sectors, values: np.ndarray, name: str) -> "_Visits":
        """By N/2τ of what related sectors have alike; a chain that never moved counts in full."""
        history = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        tau = measure(sectors.alike(history), name=name).tau_int or 0.5
        return cls(np.asarray(sectors.number(history)), history.size / max(2 * tau, 1.0))

    def share(self, n: int) -> float:
        """The share of sector n, zero where fewer counts than `LEAST_EXPECTED` speak for it."""
        found = float(np.mean(self.number == n))
        return found if found * self.independent >= LEAST_EXPECTED else 0.0


def sector_checks(action: Action, chains: Sequence[MarkovChain]) -> Iterator[Check]:
    """A check of each chain, for each observable with sectors: none is missing that should be there.

    What should be there is known from the exact probabilities of the sectors, or by a symmetry that makes all
    equally probable, or else from the other chains. It is asked of all chains of a sampler together, and of
    each one for itself, which can be asked for less: N/2τ independent draws, of what sectors that a symmetry
    relates have alike, are how often a sampler could have seen each sector.

    Args:
        action: the theory.
        chains: the Markov chains, with what was recorded of them.
    """
    for observable in action.observables:
        if observable.sectors is not None:
            recorded = {
                chain.words.sentence: chain.series[observable.name]
                for chain in chains
                if observable.name in chain.series
            }
            yield from _of_observable(action, observable, observable.sectors, recorded)


def _of_observable(
    action: Action, observable: Observable, sectors: Sectors, recorded: dict[str, np.ndarray]
) -> Iterator[Check]:
    visits = {
        name: _Visits.of(sectors, values, observable.name) for name, values in recorded.items() if len(values)
    }
    share, source = _expected(action, observable, sectors)
    for name, mine in visits.items():
        if share is not None:
            yield _check(name, mine, sectors, share, source)
            continue
        for other, theirs in visits.items():
            if other != name:
                yield _check(name, mine, sectors, theirs.share, other)


def _expected(action: Action, observable: Observable, sectors: Sectors) -> tuple[Share | None, str]:
    """The probability of each sector without any chain, and where it comes from.

    Sectors of an observable that is odd under x → −x are alike where S(−x) = S(x); of others it is their
    record that says so of this theory.
    """
    values = sectors.values
    if values is not None and action.probability(observable.name, np.array(values(0))) is not None:

        def exactly(n: int) -> float:
            found = action.probability(observable.name, np.array(values(n)))
            return 0.0 if found is None else float(np.sum(found))

        return exactly, "exact probabilities"
    equal = sectors.equal
    if equal is not None and (action.z2_symmetric or not observable.odd):
        return lambda _: 1 / equal, "symmetry"
    return None, ""


def _check(name: str, visits: _Visits, sectors: Sectors, share: Share, source: str) -> Check:
    """Unless it is known how many there are, sectors become rarer from the second on."""
    together, alone = [], []
    n_chains = visits.number.shape[1]
    for n in itertools.count() if sectors.equal is None else range(sectors.equal):
        expected = share(n) * visits.independent
        if n and expected < LEAST_EXPECTED and sectors.equal is None:
            break
        if expected >= LEAST_EXPECTED:
            together.append(n)
        if expected >= LEAST_EXPECTED * n_chains:
            alone.append(n)
    missing = [n for n in together if not np.any(visits.number == n)]
    stuck = sum(not all(np.any(chain == n) for n in alone) for chain in visits.number.T)
    title = f"{sectors.title} of {name}, by {source}"
    if missing or stuck:
        faults = [f"{sectors.name(n)} never visited" for n in missing]
        if stuck:
            faults.append(f"{stuck} of {n_chains} chains miss one of {_listed(sectors, alone)}")
        return Check(title, False, "; ".join(faults) + ": the sampler is frozen or has lost these sectors")
    if not together:
        return Check(title, True, f"none is expected {LEAST_EXPECTED:.0f} times in so short a chain")
    detail = f"{_listed(sectors, together)} visited"
    if alone and n_chains > 1:
        detail += f", {_listed(sectors, alone)} by each of {n_chains} chains"
    highest = int(visits.number.max())
    return Check(
        title, True, detail + (f"; the highest is {sectors.name(highest)}" if highest > max(together) else "")
    )


def _listed(sectors: Sectors, numbers: Sequence[int]) -> str:
    return ", ".join(map(sectors.name, numbers))


def visited(sectors: Sectors, values: np.ndarray) -> np.ndarray:
    """In which sector a chain is at each step, (steps, …); between sectors in the one that it left last.

    Where sectors of one number hold several values, such as Q and −Q, these are told apart.
    """
    history = np.asarray(values, dtype=np.float64)
    if sectors.values is not None:
        return history
    number = np.asarray(sectors.number(history))
    steps = np.arange(len(number)).reshape(-1, *[1] * (number.ndim - 1))
    last = np.maximum.accumulate(np.where(number >= 0, steps, 0), axis=0)
    return np.take_along_axis(number, last, axis=0)
