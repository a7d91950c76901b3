"""Maximum likelihood on configurations of a file, for trainings that a configuration describes."""

from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from latflow.densities.base import Density
from latflow.ensembles import read_ensemble
from latflow.errors import EnsembleError
from latflow.estimators.base import Estimate
from latflow.estimators.score import ForwardKL
from latflow.theories.base import Action


class ForwardKLOfFile(ForwardKL):
    """`ForwardKL` on the configurations of a file, which is read when the training begins.

    It keeps the checksum of what it has read, so that a training goes on with the same configurations alone.

    Args:
        configurations: the path of the file, as `ensembles.read_ensemble` takes it.
        array: its name in the file; the only one that fits if None.

    Attributes:
        digest: the checksum of what it has read; empty before.

    Raises:
        ValueError: from `check`, without a file, and for a density without `log_prob`.
        EnsembleError: from `prepare` or else the first call, for a file that is damaged or does not fit the
            theory, or is another one than that with which the training began.
    """

    stateful = True

    def __init__(self, configurations: str = "", array: str | None = None) -> None:
        self.path: str = configurations
        self.array: str | None = array
        self._flat: Tensor | None = None
        self.digest, self._expected = "", ""

    def check(self, density: object, action: Action) -> None:
        super().check(density, action)
        if not self.path:
            raise ValueError(
                'expected estimator_options = { configurations = "FILE" } for forward_kl, got no file'
            )
        if not hasattr(density, "log_prob"):
            raise ValueError(
                "expected a density with `log_prob`, for the estimator forward_kl, got "
                f"{type(density).__name__}"
            )

    def prepare(self, action: Action) -> dict[str, str]:
        if self._flat is None:
            self._read(action)
        return {self.path: self.digest}

    def _read(self, action: Action) -> None:
        ensemble = read_ensemble(Path(self.path), action, self.array)
        if self._expected and ensemble.digest != self._expected:
            raise EnsembleError(
                f"{self.path} has changed since the training began: expected the checksum "
                f"{self._expected[:16]}…, found {ensemble.digest[:16]}…: put it back, or begin another run"
            )
        self._flat = ensemble.flat()
        self.digest: str = ensemble.digest

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        self.prepare(action)
        assert self._flat is not None
        if not hasattr(self, "configurations"):
            numbers = [*density.parameters()] if isinstance(density, nn.Module) else []
            dtype = next((p.dtype for p in numbers if p.is_floating_point()), torch.get_default_dtype())
            precise = self._flat.to(dtype) if self._flat.is_floating_point() else self._flat
            self.configurations: Tensor = precise.to(generator.device)
        return super().__call__(density, action, n, generator)

    def state_dict(self) -> dict[str, Tensor]:
        """The checksum, once the file is read."""
        known = self.digest or self._expected
        return {"sha256": torch.tensor(list(bytes.fromhex(known)), dtype=torch.uint8)} if known else {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if "sha256" in state:
            self._expected = bytes(state["sha256"].tolist()).hex()
