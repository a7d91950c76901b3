"""Chains on disk: arrays in zarr that grow a block at a time, and that others can read meanwhile."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray
import zarr
from xarray import Dataset

from latflow.errors import RunFolderError
from latflow.storage import replacing

# Readers find the arrays and their lengths through the consolidated metadata, one file that is replaced when
# all arrays of a block are written: they never meet a block that is half there. Of the formats of zarr, only
# version 2 has it.
_FORMAT = 2


class ChainStore:
    """A zarr store with groups of series, each (step, chain, …).

    Args:
        path: of the store, which appears with the first block.
        attributes: what is written beside the numbers.
        axes: the names of the axes of a series beyond step and chain, by its name.
    """

    def __init__(
        self, path: Path, attributes: dict[str, Any], axes: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self.path, self.attributes, self.axes = path, attributes, axes or {}

    def append(self, groups: dict[str, dict[str, np.ndarray]], first: int) -> None:
        """Write a block of steps to several groups at once; they come into sight together.

        Args:
            groups: the series of each group, (step, chain, …).
            first: the number of steps that the groups hold already. With 0 what they hold is replaced.
        """
        for group, series in groups.items():
            if first == 0:
                # chunks as long as a block: what is appended never changes what is there
                chunks = {name: {"chunks": values.shape} for name, values in series.items()}
                how: dict[str, Any] = {"mode": "w", "encoding": chunks}
            else:
                how = {"mode": "a", "append_dim": "step"}
            block = self._dataset(series)
            block.to_zarr(self.path, group=group, consolidated=False, zarr_format=_FORMAT, **how)
        zarr.consolidate_metadata(self.path, zarr_format=_FORMAT)

    def cut(self, groups: list[str], steps: int) -> None:
        """Take away what was written beyond `steps`, whole or in part, before the process ended.

        Raises:
            RunFolderError: when less is there.
        """
        for group in groups:
            folder = self.path / group
            held = zarr.open_group(folder, mode="r+", use_consolidated=False) if folder.exists() else None
            arrays = dict(held.arrays()) if held is not None else {}
            if not arrays or min(array.shape[0] for array in arrays.values()) < steps:
                raise RunFolderError(
                    f"expected {steps} steps in {folder}, found fewer: remove the checkpoint of that chain, "
                    f"and it is sampled anew"
                )
            for array in arrays.values():
                array.resize((steps, *array.shape[1:]))
        zarr.consolidate_metadata(self.path, zarr_format=_FORMAT)

    def dataset(self, group: str, steps: int) -> Dataset:
        """The first `steps` steps of a group, loaded as they are used; empty where nothing is written."""
        if not steps or not (self.path / group).exists():
            return Dataset(attrs=self.attributes)
        opened = xarray.open_zarr(self.path, group=group, chunks=None, consolidated=True)
        return opened.isel(step=slice(steps))

    def series(self, group: str, steps: int) -> dict[str, np.ndarray]:
        """The first `steps` steps of a group, each series (step, chain, …)."""
        with self.dataset(group, steps) as opened:
            return {str(name): values.to_numpy() for name, values in opened.data_vars.items()}

    def export(self, target: Path, steps: Mapping[Any, int]) -> None:
        """Write groups to one NetCDF-4 file, which is an HDF5 file, whole or not at all."""
        with replacing(target) as temporary:
            for number, (group, written) in enumerate(steps.items()):
                with self.dataset(group, written) as opened:
                    mode = "a" if number else "w"
                    opened.to_netcdf(temporary, mode=mode, group=group, engine="h5netcdf")

    def _dataset(self, series: dict[str, np.ndarray]) -> Dataset:
        sizes: dict[str, int] = {}
        variables = {}
        for name, values in series.items():
            inner = self._axes(name, values.ndim - 2)
            # an axis that is longer elsewhere is another one
            if any(sizes.setdefault(a, n) != n for a, n in zip(inner, values.shape[2:], strict=True)):
                inner = [f"{name}_{axis}" for axis in range(values.ndim - 2)]
            variables[name] = (["step", "chain", *inner], values)
        return Dataset(variables, attrs=self.attributes)

    def _axes(self, name: str, number: int) -> list[str]:
        """The names of the axes of one entry of a series."""
        if name == "field":
            return [f"x{axis}" for axis in range(number)]
        named = list(self.axes.get(name, ()))
        return named if len(named) == number else [f"{name}_{axis}" for axis in range(number)]
