"""A run: what people and the later stages hold in their hands."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from xarray import Dataset

from latflow.errors import RunFolderError
from latflow.runs import growth, sampling, training
from latflow.runs.folder import RunFolder, plain
from latflow.storage import write_text
from latflow.training import World

Group = Literal["flow", "proposals", "hmc", "classical"]
"""The chain of the flow, the raw draws of the flow that were proposed to it, and the chain beside it."""

_GROUPS: tuple[Group, ...] = ("flow", "proposals", "hmc", "classical")


class Run(RunFolder):
    """A run in its folder, and its stages.

    Each stage goes on where it stopped, with the same numbers as if it had not. Several processes train
    together where they are joined, see `latflow.training.joined`; the first alone samples, and for the others
    those stages return at once.

    Example:
        >>> import latflow as lf, tempfile
        >>> config = lf.load_config("phi4-quick", ["training.steps=2", "sampling.steps=20"])
        >>> run = lf.Run.create(Path(tempfile.mkdtemp()) / "run", config)
        >>> run.train()
        >>> run.sample()
        >>> run.series("flow")["phi_squared"].shape
        (20, 16)
    """

    def train(self, on_record: training.OnRecord | None = None) -> None:
        """Train to the end; see `latflow.runs.training.train`."""
        training.train(self, on_record)

    def sample(self, on_block: growth.OnBlock | None = None) -> None:
        """Grow the chain of the flow to its length; see `latflow.runs.sampling.sample_flow`."""
        if World.here().rank == 0:
            sampling.sample_flow(self, on_block)

    def sample_hmc(self, on_block: growth.OnBlock | None = None) -> None:
        """Grow the chain of HMC to its length; see `latflow.runs.sampling.sample_hmc`."""
        if World.here().rank == 0:
            sampling.sample_hmc(self, on_block)

    def sample_classical(self, on_block: growth.OnBlock | None = None) -> None:
        """Grow the classical chain of spins; see `latflow.runs.sampling.sample_classical`."""
        if World.here().rank == 0:
            sampling.sample_classical(self, on_block)

    @property
    def trained_steps(self) -> int:
        """The steps that the last checkpoint holds."""
        return training.trained_steps(self)

    def history(self) -> list[dict[str, Any]]:
        """The training records, one for each step: the fields of `training.Record`."""
        return training.read_history(self.history_file)

    def series(self, group: Group) -> dict[str, np.ndarray]:
        """The numbers of a chain, each (step, chain, …), or {} where nothing is written yet."""
        return growth.chain_store(self).series(group, self._steps(group))

    def dataset(self, group: Group) -> Dataset:
        """The same as an xarray data set, which reads from the disk what is used."""
        return growth.chain_store(self).dataset(group, self._steps(group))

    def sampling_info(self, name: growth.ChainName) -> dict[str, Any]:
        """The `steps` of a chain, the `seconds` and `acceptance` of them, and the step size of HMC.

        Of a classical chain the `acceptance` is the share of the spins that a step changes. The seconds
        include tuning and thermalisation; of HMC there are `step_size` and `n_steps`, as tuned; those of
        kernels of the flow's chain are in `trajectories`, by the name of the kernel.
        """
        info = growth.chain_info(self, name)
        if not info["steps"]:
            return info
        return info | {"acceptance": float(self.dataset(name)["accepted"].mean())}

    def written(self) -> dict[Group, int]:
        """The groups of chains and how many steps are written of each.

        Raises:
            RunFolderError: when there are none yet.
        """
        lengths: dict[Group, int] = {group: steps for group in _GROUPS if (steps := self._steps(group))}
        if not lengths:
            raise RunFolderError(f"{self.path} holds no chain yet: `latflow sample {self.path}` makes one")
        return lengths

    def export(self, target: Path | str) -> None:
        """Write all chains to one file for other tools, in groups as in `samples.zarr`.

        Args:
            target: a path that ends in .nc or .h5; the format is NetCDF-4, which is HDF5, in either case.

        Raises:
            ValueError: for another ending.
            RunFolderError: when there is no chain yet.
        """
        target = Path(target)
        if target.suffix not in (".nc", ".h5", ".hdf5"):
            raise ValueError(f"expected a file name that ends in .nc, .h5 or .hdf5, got {target.name!r}")
        growth.chain_store(self).export(target, self.written())

    def save_results(self, results: dict[str, Any]) -> None:
        """Keep the verdict of a validation in `results.json`; null stands for what is not finite."""
        write_text(self.path / "results.json", json.dumps(plain(results), indent=2, allow_nan=False))

    def _steps(self, group: Group) -> int:
        return growth.written_steps(self, group)
