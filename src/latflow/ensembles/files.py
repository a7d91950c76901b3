"""The arrays in a file, by their headers alone: NumPy, HDF5 and NetCDF, zarr. Nothing is ever unpickled."""

import contextlib
import itertools
import math
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latflow.errors import EnsembleError

_LIME = bytes.fromhex("456789ab")
_NUMBERS = "biufc"
"""The kinds of types that are numbers."""
_MOST = 1000
"""Arrays of a file."""
_DEFLATED = 1032
"""Bytes that one byte can stand for in a zip, by its compression."""
_LONGEST = 300
"""Letters of what a library says of a damaged file."""
_ZARR = ("zarr.json", ".zgroup", ".zarray")
"""One of which lies in a folder of zarr."""
_CHAINS = "samples.zarr"
"""Where the folder of a run has its chains."""


@dataclass(frozen=True)
class Stored:
    """An array in a file, of which the header is read alone.

    Attributes:
        name: within the file; empty where the file is one array.
        shape: of the whole array.
        dtype: of its numbers.
        load: reads it.
        axes: the names of its axes, where the file has some.
        guarded: whether the file has checksums of its own, which reading verifies.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]
    axes: tuple[str, ...] = ()
    guarded: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        """The array in a message: "model/field (200, 64, 8, 8) float32"."""
        return " ".join(part for part in (self.name, str(self.shape), str(self.dtype)) if part)


def stored_arrays(path: Path) -> list[Stored]:
    """The arrays of numbers in a file, or in a folder of zarr.

    `.npy`, `.npz`, HDF5 with NetCDF-4, NetCDF-3 and zarr, told apart by what is in the file; the folder of a
    run stands for its chains.

    Raises:
        EnsembleError: when there is no such file, it is none of these, it is shorter than its header says, or
            it holds objects of Python.
    """
    if path.is_dir():
        return _few(path, _of_zarr(path / _CHAINS if (path / _CHAINS).is_dir() else path))
    if not path.is_file():
        raise EnsembleError(f"expected a file of configurations at {path}, found none")
    with path.open("rb") as file:
        begin = file.read(8)
    if begin.startswith(_LIME):
        raise EnsembleError(
            f"{path} is a LIME file: the ILDG format describes SU(3) links in four dimensions, and no theory "
            "of latflow has such a field; expected .npy, .npz, HDF5, NetCDF or zarr"
        )
    for sign, reader in _READERS.items():
        if begin.startswith(sign):
            with telling(path):
                return _few(path, reader(path))
    raise EnsembleError(
        f"expected .npy, .npz, HDF5, NetCDF or a folder of zarr, got {path}, which begins with {begin!r}"
    )


def _few(path: Path, arrays: Iterator[Stored]) -> list[Stored]:
    """All arrays of a file, of which each costs time."""
    found = list(itertools.islice(arrays, _MOST + 1))
    if len(found) > _MOST:
        raise EnsembleError(f"{path}: expected at most {_MOST} arrays, got more")
    return found


@contextlib.contextmanager
def telling(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes of the libraries that read it is one error of ours."""
    try:
        yield
    except (MemoryError, EnsembleError):
        raise
    except Exception as error:
        words = textwrap.shorten(str(error), _LONGEST, placeholder=" …")
        raise EnsembleError(
            f"{path} is truncated or damaged ({type(error).__name__}: {words[:_LONGEST]}): copy it again"
        ) from error


def _of_npy(path: Path) -> Iterator[Stored]:
    with path.open("rb") as file:
        shape, dtype = _npy_header(file, path)
        there = path.stat().st_size - file.tell()
    _check_length(path, shape, dtype, there)
    yield Stored("", shape, dtype, lambda: np.load(path, allow_pickle=False))


def _of_npz(path: Path) -> Iterator[Stored]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            held = min(member.compress_size, path.stat().st_size)
            if member.file_size > _DEFLATED * held + _DEFLATED:
                raise EnsembleError(
                    f"{path} is truncated: it claims {member.file_size} bytes of {member.filename!r:.80}, "
                    f"which cannot come of the {held} that are there"
                )
            with archive.open(member) as file:
                shape, dtype = _npy_header(file, path)
                _check_length(path, shape, dtype, member.file_size - file.tell())
            name = member.filename.removesuffix(".npy")
            # zip has a CRC-32 of each member, which reading it verifies
            yield Stored(name, shape, dtype, lambda name=name: _from_npz(path, name), guarded=True)


def _from_npz(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        return archive[name]


def _npy_header(file: Any, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise EnsembleError(f"{path}: expected format 1 or 2 of .npy, got {version}")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise EnsembleError(f"{path} holds objects of Python, which are never unpickled: expected numbers")
    if dtype.kind not in _NUMBERS:
        raise EnsembleError(f"{path}: expected numbers, got {str(dtype)!r:.80}")
    return shape, dtype


def _check_length(path: Path, shape: tuple[int, ...], dtype: np.dtype, there: int) -> None:
    if any(side < 0 for side in shape):
        raise EnsembleError(f"{path} is damaged: its header says {shape}")
    expected = math.prod(shape) * dtype.itemsize
    if there < expected:
        one = max(expected // max(shape[0], 1), 1) if shape else expected
        raise EnsembleError(
            f"{path} is truncated: its header says {shape} of {dtype}, {expected} bytes, and it holds "
            f"{there}: {there // one} of {shape[0] if shape else 1} entries are whole"
        )


def _of_hdf5(path: Path) -> Iterator[Stored]:
    import h5py

    found: list[Stored] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in _NUMBERS:
            _check_sources(path, item)
            axes = tuple(_axis(dimension) for dimension in item.dims)
            found.append(
                Stored(
                    name, item.shape, item.dtype, lambda: _from_hdf5(path, name), axes, bool(item.fletcher32)
                )
            )

    with h5py.File(path, "r") as file:
        file.visititems(look)
    yield from found


def _check_sources(path: Path, dataset: Any) -> None:
    """The numbers lie in the file or in others of its folder: a link that leaves that is refused."""
    folder, name = path.parent.resolve(), dataset.name
    if dataset.external is not None:
        raise EnsembleError(f"{path}: expected the numbers of {name} in the file, found a link to others")
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        file = path if source.file_name == "." else folder / source.file_name
        if not file.resolve().is_relative_to(folder):
            raise EnsembleError(f"{path}: the numbers of {name} are linked from outside of its folder")
        if not file.is_file():  # of which zeros would be read
            raise EnsembleError(
                f"{path} is truncated: {source.file_name!r:.80}, with numbers of {name}, is gone"
            )


def _axis(dimension: Any) -> str:
    """What an axis is called, by its label or by the scale of NetCDF."""
    return dimension.label or (dimension[0].name.rpartition("/")[2] if len(dimension) else "")


def _check_chunks(path: Path, name: str, dataset: Any) -> None:
    """What was never written would be read as zeros."""
    there = dataset.id.get_num_chunks() if dataset.chunks else int(dataset.id.get_storage_size() > 0)
    counts = zip(dataset.shape, dataset.chunks, strict=True) if dataset.chunks else ()
    expected = math.prod(math.ceil(side / chunk) for side, chunk in counts)
    if there < expected and not dataset.is_virtual:
        raise _missing(path, name, there, expected)


def _missing(path: Path, name: str, there: int, expected: int) -> EnsembleError:
    return EnsembleError(
        f"{path} is truncated: {there} of {expected} chunks of its array {name} are there".replace("  ", " ")
    )


def _from_hdf5(path: Path, name: str) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        dataset = file[name]
        assert isinstance(dataset, h5py.Dataset)
        _check_chunks(path, name, dataset)
        return dataset[()]


def _of_netcdf3(path: Path) -> Iterator[Stored]:
    from scipy.io import netcdf_file

    found = []
    with netcdf_file(path, mmap=True) as file:  # of which no more can be read than is there
        for name, variable in file.variables.items():
            if variable.data.dtype.kind in _NUMBERS and variable.shape:
                data = np.array(variable.data)
                axes = tuple(map(str, variable.dimensions))
                found.append(Stored(name, data.shape, data.dtype, lambda data=data: data, axes))
            del variable
    yield from found


def _of_zarr(path: Path) -> Iterator[Stored]:
    import zarr
    from zarr.storage import LocalStore

    if not any((path / name).is_file() for name in _ZARR):
        raise EnsembleError(
            f"expected a folder of zarr, or of a run with chains, got {path}, which is neither"
        )
    with telling(path):
        # a path would be read as an address where it looks like one
        root = zarr.open(LocalStore(path.absolute(), read_only=True), mode="r")
        found = [("", root)] if isinstance(root, zarr.Array) else list(_arrays_in(root))
        for name, array in found:
            if array.dtype.kind not in _NUMBERS or not array.shape:
                continue
            named: Any = array.attrs.get("_ARRAY_DIMENSIONS")
            named = named or getattr(array.metadata, "dimension_names", None) or ()
            codecs = [*array.compressors, *array.filters]
            guarded = any(getattr(one, "checksum", False) or "Crc32" in type(one).__name__ for one in codecs)
            yield Stored(
                name,
                array.shape,
                array.dtype,
                lambda name=name, array=array: _from_zarr(path, name, array),
                tuple(map(str, named)),
                guarded,
            )


def _from_zarr(path: Path, name: str, array: Any) -> np.ndarray:
    if (there := array.nchunks_initialized) < array.nchunks:
        raise _missing(path, name, there, array.nchunks)
    return np.asarray(array[...])


def _arrays_in(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, array in group.arrays():
        yield f"{prefix}{name}", array
    for name, inner in group.groups():
        yield from _arrays_in(inner, f"{prefix}{name}/")


_READERS: dict[bytes, Callable[[Path], Iterator[Stored]]] = {
    b"\x93NUMPY": _of_npy,
    b"PK": _of_npz,
    b"\x89HDF": _of_hdf5,
    b"CDF": _of_netcdf3,
}
"""By the first bytes of a file."""
