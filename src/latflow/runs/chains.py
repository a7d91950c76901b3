"""Chains on disk: arrays in zarr that grow a block at a time, and that others can read meanwhile."""

import contextlib
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray
import zarr
from numcodecs import Zstd
from xarray import Dataset
from zarr.storage import LocalStore

from latflow.errors import RunFolderError
from latflow.series import Loaded
from latflow.storage import reach_disk, replacing

# Readers find the arrays and their lengths through the consolidated metadata, one file that is replaced when
# all arrays of a block are written: they never meet a block that is half there. Of the formats of zarr, only
# version 2 has it.
_FORMAT = 2

_BEGUN = ".partial"
"""How zarr 3 calls files that it has not written to their end."""

_ABOUT = ".z*"
"""How files are called that say what a folder holds."""

_IN_MEMORY = 2**27
"""Bytes of the series of a group that are read at once; of longer chains as many are kept."""

_CODEC = Zstd(level=1, checksum=True)
"""With a checksum of each chunk: a changed one does not unpack."""


@dataclass(frozen=True)
class Written:
    """What is written of a group of series.

    Attributes:
        steps: how many steps.
        arrays: the type of each series, and the shape of its chunks: "<f4" and (block, chain, …).
        blocks: the steps that each block ends at.
        sums: of each series the checksums of its blocks, CRC-32 of their bytes.
    """

    steps: int = 0
    arrays: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()
    sums: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def grown(self, series: Mapping[str, np.ndarray]) -> "Written":
        """The same after another block. Chunks are as long as the first."""
        arrays = self.arrays or {name: (values.dtype.str, values.shape) for name, values in series.items()}
        steps = self.steps + len(next(iter(series.values())))
        sums = {name: (*self.sums.get(name, ()), _sum(values)) for name, values in series.items()}
        return Written(steps, arrays, (*self.blocks, steps), sums)

    @property
    def size(self) -> int:
        """Bytes of all series together."""
        sizes = (np.dtype(dtype).itemsize * math.prod(chunks[1:]) for dtype, chunks in self.arrays.values())
        return self.steps * sum(sizes)

    def holds(self, name: str, values: np.ndarray) -> bool:
        """Whether a series is what was written."""
        sums = self.sums.get(name)  # earlier versions kept none
        return sums is None or sums == tuple(map(_sum, np.split(values, self.blocks[:-1])))


def _chunk(number: int, axes: int) -> str:
    """The file of a chunk of an array that is divided along its first axis alone."""
    return f"{number}{'.0' * (axes - 1)}"


def _sum(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data)


class ChainStore:
    """A zarr store with groups of series, each (step, chain, …).

    What is read is held against what was written: a missing array or chunk, another type or shape, or a
    changed chunk is told.

    Args:
        path: of the store, which appears with the first block.
        attributes: what is written beside the numbers.
        axes: the names of the axes of a series beyond step and chain, by its name.
    """

    def __init__(
        self, path: Path, attributes: dict[str, Any], axes: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self.path: Path = path.absolute()
        self.attributes: dict[str, Any] = attributes
        self.axes: Mapping[str, tuple[str, ...]] = axes or {}
        # a path would be read as an address where it looks like one, or begins with a ~
        self.store: LocalStore = LocalStore(self.path)

    def append(self, groups: dict[str, dict[str, np.ndarray]], first: int) -> None:
        """Write a block of steps to several groups at once: they come into sight together, on the disk.

        Args:
            groups: the series of each group, (step, chain, …).
            first: the number of steps that the groups hold already. With 0 what they hold is replaced.
        """
        for group, series in groups.items():
            if first == 0:
                # chunks as long as a block: what is appended never changes what is there
                chunks = {name: {"chunks": v.shape, "compressors": _CODEC} for name, v in series.items()}
                how: dict[str, Any] = {"mode": "w", "encoding": chunks}
            else:
                how = {"mode": "a", "append_dim": "step"}
            # a chunk of zeros is written, too: one that is not there is missing
            self._dataset(series).to_zarr(
                self.store,
                group=group,
                consolidated=False,
                zarr_format=_FORMAT,
                write_empty_chunks=True,
                **how,
            )
        zarr.consolidate_metadata(self.store, zarr_format=_FORMAT)
        for path in self._touched(groups, first):
            reach_disk(path)

    def sweep(self) -> None:
        """Remove what zarr had begun to write when its process was killed."""
        for file in self.path.rglob(f"*{_BEGUN}"):
            file.unlink(missing_ok=True)

    def cut(self, written: Mapping[str, Written]) -> None:
        """Take away what lies beyond the steps that are written, whole or in part, before the process ended.

        Raises:
            RunFolderError: when less is there.
        """
        for group, there in written.items():
            self._check(group, there)
            held = zarr.open_group(self.store, path=group, mode="r+", use_consolidated=False)
            for _, array in held.arrays():
                array.resize((there.steps, *array.shape[1:]))
        zarr.consolidate_metadata(self.store, zarr_format=_FORMAT)

    def dataset(self, group: str, written: Written) -> Dataset:
        """What is written of a group, loaded as it is used; empty where nothing is written.

        Raises:
            RunFolderError: when an array or a part of one is missing or of another kind.
        """
        if not written.steps:
            return Dataset(attrs=self.attributes)
        self._check(group, written)
        with self._telling(group):
            opened = xarray.open_zarr(self.store, group=group, chunks=None, consolidated=True)
            opened.attrs = dict(self.attributes)  # of those in the store nothing would tell damage
            return opened[list(written.arrays)].isel(step=slice(written.steps))

    def series(self, group: str, written: Written) -> Mapping[str, np.ndarray]:
        """What is written of a group, each series (step, chain, …); of a long chain read as it is asked for.

        Raises:
            RunFolderError: when something is missing or damaged; where a series of a long chain is, when it
                is asked for.
        """
        with self.dataset(group, written) as opened:
            names = tuple(map(str, opened.data_vars))

        def load(name: str) -> np.ndarray:
            with self.dataset(group, written) as opened:
                return self._load(group, written, opened, name)

        found = Loaded(names, load, _IN_MEMORY)
        return dict(found) if written.size <= _IN_MEMORY else found

    def export(self, target: Path, written: Mapping[Any, Written]) -> None:
        """Write groups to one NetCDF-4 file, which is an HDF5 file, whole or not at all.

        Raises:
            RunFolderError: when something is missing or damaged.
        """
        with replacing(target) as temporary:
            for number, (group, there) in enumerate(written.items()):
                with self.dataset(group, there) as opened:
                    for name in map(str, opened.data_vars):
                        self._load(group, there, opened, name)
                    mode = "a" if number else "w"
                    opened.to_netcdf(temporary, mode=mode, group=group, engine="h5netcdf")

    def _load(self, group: str, written: Written, opened: Dataset, name: str) -> np.ndarray:
        """Read a series of a group, and hold it against what was written."""
        with self._telling(group):
            values = opened[name].to_numpy()
        if not written.holds(name, values):
            raise self._damaged(group, f"the array {name} is not what was written")
        return values

    def _check(self, group: str, written: Written) -> None:
        """Every array is there, of its kind, with every chunk of the steps that are written."""
        with self._telling(group):
            folder = zarr.open_group(self.store, mode="r", zarr_format=_FORMAT)[group]
            arrays = dict(folder.arrays()) if isinstance(folder, zarr.Group) else {}
        for name, (dtype, chunks) in written.arrays.items():
            array = arrays.get(name)
            found = (
                "none" if array is None else f"{array.shape} of {array.dtype.str} in chunks of {array.chunks}"
            )
            expected = f"({written.steps} steps, {chunks[1:]}) of {dtype} in chunks of {chunks}"
            if (
                array is None
                or array.shape[0] < written.steps
                or (array.dtype.str, array.chunks, array.shape[1:]) != (dtype, chunks, chunks[1:])
            ):
                raise self._damaged(group, f"expected the array {name}, {expected}, found {found}")
            for number in range(math.ceil(written.steps / chunks[0])):
                file = self.path / group / name / _chunk(number, len(chunks))
                if not file.is_file():
                    raise self._damaged(group, f"the chunk {file.name} of the array {name} is missing")

    @contextlib.contextmanager
    def _telling(self, group: str) -> Iterator[None]:
        """Whatever damaged files make of the libraries that read them is one error of ours."""
        try:
            yield
        except (MemoryError, RunFolderError):
            raise
        except Exception as error:
            raise self._damaged(group, f"{type(error).__name__}: {error}") from error

    def _damaged(self, group: str, what: str) -> RunFolderError:
        chain = "model" if group == "proposals" else group
        return RunFolderError(
            f"{self.path / group} is missing or damaged ({what}): put it back, or remove "
            f"checkpoints/{chain}.safetensors beside it, and that chain is sampled anew"
        )

    def _touched(self, groups: Mapping[str, Mapping[str, np.ndarray]], first: int) -> Iterator[Path]:
        """What a block that was just written has made or changed, folders after what lies in them.

        No clock tells, and no look at all files, of which a long chain has tens of thousands.
        """
        for group, series in groups.items():
            for name, values in series.items():
                array = self.path / group / name
                length = zarr.open_array(self.store, path=f"{group}/{name}", mode="r").chunks[0]
                chunks = range(first // length, math.ceil((first + len(values)) / length))
                yield from (array / _chunk(number, values.ndim) for number in chunks)
                yield from (array / ".zarray", array / ".zattrs", array)
            yield from (*(self.path / group).glob(_ABOUT), self.path / group)
        yield from (*self.path.glob(_ABOUT), self.path)

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
