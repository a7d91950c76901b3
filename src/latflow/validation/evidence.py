"""What a run has found, or an ensemble holds, as the ways to know a number and the checks read it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latflow.observables import recorded
from latflow.series import Changed
from latflow.theories import Action
from latflow.validation.checks import Check
from latflow.validation.words import CHAINS, ChainWords, OfRun, chain_words

if TYPE_CHECKING:
    from latflow.runs import Run

_AT_ONCE = 2**18
"""Numbers of the configurations that are measured at a time; of a costly theory a sixteenth."""

Series = Mapping[str, np.ndarray]
"""What was recorded, by name: (steps, chains, …) of chains, (draws, …) of independent draws."""


class MarkovChain(NamedTuple):
    """A Markov chain that has been run.

    Attributes:
        words: what it is called.
        series: what was recorded of it, (steps, chains, …).
        thermalisation: the steps before the record.
    """

    words: ChainWords
    series: Series
    thermalisation: int = 0


@dataclass(frozen=True)
class Evidence:
    """What a run has found, or an ensemble holds.

    Attributes:
        action: the theory.
        model: the Markov chain of the model, None where there is none.
        beside: that of the established sampler.
        ensemble: configurations that were made elsewhere.
        draws: the model's independent draws with finite weights, flat, with "log_weight"; empty if there are
            none.
        bad_draws: how many more had a log-weight that is nan or infinite.
        reference: numbers that the configuration gives, as "value(error)".
        seed: of what is drawn on the way.
        normalised: whether the model is a density whose integral is one, so that its weights know log Z.
    """

    action: Action
    model: MarkovChain | None = None
    beside: MarkovChain | None = None
    draws: Series = field(default_factory=dict)
    bad_draws: int = 0
    reference: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    normalised: bool = True
    ensemble: MarkovChain | None = None

    @classmethod
    def of(cls, run: "Run") -> "Evidence":
        """That of a run."""
        words = chain_words(run)
        draws, bad_draws = finite_draws(run.series("proposals"))
        chains = {chain: _chain(run, chain, words[chain]) for chain in CHAINS if chain in words}
        return cls(
            run.action,
            chains.get("model"),
            chains.get("beside"),
            draws,
            bad_draws,
            run.config.reference,
            run.config.seed,
            normalised(run),
        )

    def chains(self) -> list[MarkovChain]:
        """The Markov chains that there are."""
        return [chain for chain in (self.model, self.beside, self.ensemble) if chain is not None]

    def checks(self) -> Iterator[Check]:
        """What speaks against the draws as such."""
        if self.bad_draws:
            yield Check(
                "finite log-weights", False, f"{self.bad_draws} draws have a log-weight that is not finite"
            )


def _chain(run: "Run", chain: OfRun, words: ChainWords) -> MarkovChain | None:
    series, settings = run.series(chain), run.settings(chain)
    if not series:
        return None
    return MarkovChain(words, series, settings.thermalisation if settings is not None else 0)


def normalised(run: "Run") -> bool:
    """Whether the model, where there is one, is a density whose integral is one."""
    return run.config.model is None or getattr(run.model(), "normalised", True)


def finite_draws(draws: Series) -> tuple[Series, int]:
    """The draws as flat series without those whose log-weight is nan or +inf, and how many those are."""
    if not draws:
        return {}, 0
    log_weight = draws["log_weight"].reshape(-1)
    good = ~(np.isnan(log_weight) | np.isposinf(log_weight))
    every = bool(good.all())

    def flat(_: str, values: np.ndarray) -> np.ndarray:
        values = values.reshape(-1, *values.shape[2:])
        return values if every else values[good]

    return Changed(draws, flat), int((~good).sum())


def measured_series(action: Action, fields: Tensor) -> dict[str, np.ndarray]:
    """What is recorded of a theory, of configurations (steps, chains, …), in float64: (steps, chains, …)."""
    observe, flat = recorded(action), fields.flatten(0, 1)
    count = max(1, _AT_ONCE // (16 if action.costly else 1) // flat[0].numel())
    with torch.no_grad():
        parts = [observe(part.double() if part.is_floating_point() else part) for part in flat.split(count)]
    return {
        name: torch.cat([part[name] for part in parts]).numpy().reshape(*fields.shape[:2], *first.shape[1:])
        for name, first in parts[0].items()
    }
