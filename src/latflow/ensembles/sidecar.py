"""The side-car of a file of configurations: JSON beside it that says what they are, with a checksum."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latflow.errors import EnsembleError

FORMAT, VERSION = "latflow ensemble", 1
_LARGEST = 1_000_000
"""In bytes: a side-car is no data."""


@dataclass(frozen=True)
class SideCar:
    """What a side-car says; what it does not say is None or empty.

    Attributes:
        path: of the side-car.
        array: the name of the array in the file.
        shape: of the array.
        dtype: of its numbers, as NumPy writes it: "<f8".
        sha256: of its bytes in C order, little-endian, or of the file.
        action: the theory, as the section [action] of a configuration.
        spacing: steps of the sampler from one configuration to the next.
    """

    path: Path
    array: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    sha256: str | None = None
    action: Mapping[str, Any] = field(default_factory=dict)
    spacing: int | None = None


def side_car_of(path: Path) -> SideCar | None:
    """What lies beside a file as `NAME.npz.json` or `NAME.json`; None where there is nothing.

    A JSON file that is no side-car of latflow is one where it has any of its keys.

    Raises:
        EnsembleError: for one that cannot be read, or of a later version.
    """
    beside = [path.with_name(f"{path.name}.json"), path.with_suffix(".json")]
    file = next((one for one in beside if one.is_file() and one != path), None)
    if file is None:
        return None
    if (size := file.stat().st_size) > _LARGEST:
        raise EnsembleError(f"{file}: expected a side-car of at most {_LARGEST} bytes, got {size}")
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise EnsembleError(f"{file} is no JSON: {error}") from error
    if not isinstance(table, dict) or not table.keys() & {"format", "sha256", "shape", "dtype", "action"}:
        return None
    if table.get("format") == FORMAT and table.get("version") != VERSION:
        raise EnsembleError(f"{file}: expected version {VERSION} of the format, got {table.get('version')!r}")
    kinds: dict[str, type] = {"array": str, "dtype": str, "sha256": str, "action": dict, "spacing": int}
    for key, kind in kinds.items():
        if table.get(key) is not None and not isinstance(table[key], kind):
            raise EnsembleError(f"{file}: expected {key} as a {kind.__name__}, got {table[key]!r:.80}")
    shape = table.get("shape")
    if shape is not None and not (isinstance(shape, list) and all(isinstance(side, int) for side in shape)):
        raise EnsembleError(f"{file}: expected shape as a list of whole numbers, got {shape!r:.80}")
    told = {key: table[key] for key in kinds if table.get(key) is not None}
    return SideCar(file, shape=None if shape is None else tuple(shape), **told)


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of the bytes of an array in C order, little-endian, whatever machine holds it."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.sha256()
    for part in little if little.ndim > 1 else [little]:  # configuration by configuration: no second copy
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
