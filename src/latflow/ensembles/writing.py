"""Configurations out: one `.npz` file, and its side-car beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latflow.ensembles.reading import OWN_NAME
from latflow.ensembles.sidecar import FORMAT, VERSION, array_digest
from latflow.storage import replacing, write_text
from latflow.version import __version__


def write_ensemble(
    path: Path | str, fields: np.ndarray, action: Mapping[str, Any], spacing: int = 1, **more: Any
) -> None:
    """Write configurations to `NAME.npz`, and `NAME.npz.json` beside it, each whole or not at all.

    The array is called "configurations", (chains, number, …). The side-car says its shape and type, the
    SHA-256 of its bytes in C order and little-endian, the theory as the section [action] of a configuration,
    and how many steps of the sampler lie between two configurations. `read_ensemble` and `latflow judge` read
    both.

    Args:
        path: ends in .npz.
        fields: the configurations, (steps, chains, …).
        action: the section [action] of a configuration that gives the theory.
        spacing: steps of the sampler from one to the next.
        more: whatever else the side-car is to say, such as a description, as JSON knows it.

    Raises:
        ValueError: for another ending, or an array without steps and chains.
        OSError: when the files cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"expected a file name that ends in .npz, got {path.name!r}")
    if fields.ndim < 3:
        raise ValueError(f"expected configurations (steps, chains, …), got an array {fields.shape}")
    array = np.ascontiguousarray(fields.swapaxes(0, 1))
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    table = {
        "format": FORMAT,
        "version": VERSION,
        "array": OWN_NAME,
        "shape": list(array.shape),
        "axes": ["chain", "step", *(f"x{axis}" for axis in range(array.ndim - 2))],
        "dtype": array.dtype.str,
        "sha256": array_digest(array),
        "action": dict(action),
        "spacing": spacing,
        "latflow": __version__,
        **more,
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, configurations=array)  # by OWN_NAME
    write_text(path.with_name(f"{path.name}.json"), json.dumps(table, indent=1, ensure_ascii=False) + "\n")
