"""What a report on an ensemble is made of: its configurations and what was measured of them."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from latflow.figures import LOOKS, Source
from latflow.measurement import Measurement
from latflow.report.material import Material
from latflow.theories import Action
from latflow.validation import Judgement
from latflow.validation.known import known
from latflow.validation.words import OF_ENSEMBLE, Chain, ChainWords


class EnsembleMaterial(Material):
    """The data of an ensemble: one chain, and no run.

    Args:
        judgement: what was found of it.
    """

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement

    @cached_property
    def action(self) -> Action:
        return self.judgement.action

    @property
    def with_model(self) -> bool:
        return False

    @property
    def first(self) -> Chain:
        return "ensemble"

    @cached_property
    def words(self) -> dict[Chain, ChainWords]:
        return {"ensemble": OF_ENSEMBLE}

    @cached_property
    def kernels(self) -> dict[str, str]:
        return {}

    @cached_property
    def known(self) -> dict[str, Measurement]:
        return known(self.action, self.judgement.evidence.reference)

    @cached_property
    def proposals(self) -> dict[str, np.ndarray]:
        return {}

    @property
    def series(self) -> Mapping[Chain, Mapping[str, np.ndarray]]:
        chain = self.judgement.evidence.ensemble
        assert chain is not None
        return {"ensemble": chain.series}

    @cached_property
    def sources(self) -> dict[Chain, Source]:
        return {"ensemble": Source("ensemble", LOOKS[0])}

    @property
    def description(self) -> str:
        """How many configurations there are."""
        steps, chains = self.judgement.ensemble.fields.shape[:2]
        if chains == 1:
            return f"{steps} configurations that were made elsewhere"
        return f"{chains} chains of {steps} configurations that were made elsewhere"

    @property
    def origin(self) -> dict[str, Any]:
        """Where the configurations come from, as their file says it."""
        ensemble = self.judgement.ensemble
        side_car = ensemble.side_car
        said = {} if side_car is None else {"side-car": str(side_car.path), "spacing": side_car.spacing}
        return {
            "file": str(ensemble.path.resolve()),
            "sha256 of the array": ensemble.digest,
            "shape (steps, chains, …)": str(tuple(ensemble.fields.shape)),
            "type": str(ensemble.fields.dtype).removeprefix("torch."),
            "action": repr(self.action),
            **{name: value for name, value in said.items() if value is not None},
        }
