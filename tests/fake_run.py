"""What a run has found, made up: as little of a run as validation asks of one."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from latflow.theories import Action
from latflow.validation import ChainWords, Evidence, MarkovChain, Row, all_ways, table

MODEL = ChainWords("model + Metropolis", "the model's chain", "one proposal of the model", True, True)
HMC = ChainWords("HMC", "the HMC chain", "one trajectory of HMC")


def chain(series, words=HMC, thermalisation=0) -> MarkovChain:
    """A Markov chain of a name."""
    return MarkovChain(words, series, thermalisation)


def evidence(action: Action, model=None, draws=None, beside=None, reference=None) -> Evidence:
    """What a run has found whose series are given; a chain has accepted every step."""
    chains = [
        series and chain({"accepted": series["action"] == series["action"]} | series, words)
        for series, words in ((model, MODEL), (beside, HMC))
    ]
    return Evidence(action, chains[0] or None, chains[1] or None, draws or {}, reference=reference or {})


def rows_of(found: Evidence) -> dict[str, Row]:
    """The rows of the verdict table by name."""
    return {row.name: row for row in table(found.action, all_ways(found))}


@dataclass
class FakeRun:
    """A run that is already sampled."""

    action: Action
    density: Any
    recorded: dict[str, Any]
    kernels: dict[str, dict[str, Any]]
    reference: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Any:
        return SimpleNamespace(model=self.density, reference=self.reference, seed=1)

    def series(self, group: str) -> dict[str, Any]:
        return self.recorded.get(group, {})

    def samplers(self, chain: str) -> dict[str, Any]:
        return self.kernels.get(chain, {})

    def settings(self, chain: str) -> Any:
        return SimpleNamespace(thermalisation=10) if chain in self.kernels else None

    @property
    def path(self) -> Path:
        """Of a folder that is not there."""
        return Path(os.devnull, "none")

    def model(self) -> Any:
        return self.density
