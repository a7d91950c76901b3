"""Configurations from a file, held against its checksums, its side-car and the theory that they are of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.ensembles.files import Stored, stored_arrays, telling
from latflow.ensembles.sidecar import SideCar, array_digest, side_car_of
from latflow.errors import EnsembleError
from latflow.memory import installed_memory
from latflow.theories import Action

OWN_NAME = "configurations"
"""Of the array in a file that latflow writes."""

_SHARE_OF_MEMORY = 0.25
"""That configurations may take: what is measured of them needs room, too."""
_AT_ONCE = 1024
_LISTED = 8
"""Arrays that a message names."""
_CLOSE = 1e-4
"""How far numbers may lie from the values of their kind of field, for rounding."""


@dataclass(frozen=True)
class Ensemble:
    """Configurations that were read.

    Attributes:
        path: of the file.
        fields: the configurations, (steps, chains, …), in the precision of the file.
        digest: SHA-256 of the array as it stands in the file.
        side_car: what lies beside it; None where there is nothing.
        warnings: what could not be checked.
    """

    path: Path
    fields: Tensor
    digest: str
    side_car: SideCar | None = None
    warnings: tuple[str, ...] = ()

    def flat(self) -> Tensor:
        """All configurations, (steps · chains, …)."""
        return self.fields.flatten(0, 1)


def read_ensemble(path: Path | str, action: Action, name: str | None = None) -> Ensemble:
    """Read configurations of a theory from a file.

    Arrays are (number, …) or (chains, number, …), with the shape of a configuration behind; where the file
    names the axes, as latflow does, they may stand the other way around.

    Args:
        path: of a file that `stored_arrays` knows.
        action: the theory.
        name: of the array in the file; the only one that fits if None.

    Raises:
        EnsembleError: naming what was expected and what came: no array of that shape, or several; a file that
            is truncated, or larger than memory; a wrong checksum; numbers that are not finite or no values of
            the field.
    """
    path = Path(path)
    side_car = side_car_of(path)
    stored = chosen(path, stored_arrays(path), action.field_shape, name or (side_car and side_car.array))
    _check_side_car(path, stored, side_car)
    memory = installed_memory()
    if memory is not None and stored.size > _SHARE_OF_MEMORY * memory:
        raise EnsembleError(
            f"{path}: {stored} takes {stored.size / 2**30:.3g} GiB, and this machine has "
            f"{memory / 2**30:.3g}: take fewer configurations, or every second one"
        )
    with telling(path):
        array = stored.load()
    digest = array_digest(array)
    _check_digest(path, digest, side_car)
    fields = fitted(path, in_steps(array, stored.axes, len(action.field_shape)), action)
    return Ensemble(path, fields, digest, side_car, tuple(_unchecked(path, stored, side_car)))


def chosen(path: Path, found: Sequence[Stored], shape: tuple[int, ...], name: str | None = None) -> Stored:
    """The array of a file that holds configurations of a shape.

    Raises:
        EnsembleError: when there is none, or several.
    """
    listed = _listed(found)
    if name is not None:
        found = [one for one in found if one.name == name]
        if not found:
            raise EnsembleError(f"{path}: expected an array {name!r}, found {listed}")
    fit = [
        one for one in found if one.shape[-len(shape) :] == shape and len(one.shape) - len(shape) in (1, 2)
    ]
    own = [one for one in fit if one.name == OWN_NAME]
    fit = own or fit
    sides = ", ".join(map(str, shape))
    if not fit:
        raise EnsembleError(
            f"{path}: expected an array (number, {sides}) or (chains, number, {sides}), found {listed}"
        )
    if len(fit) > 1:
        raise EnsembleError(
            f"{path}: expected one array of configurations, found {_listed(fit)}: name one by "
            f"--array {fit[0].name}"
        )
    return fit[0]


def _listed(found: Sequence[Stored]) -> str:
    """The first of some arrays, for a message."""
    more = f"; and {len(found) - _LISTED} others" if len(found) > _LISTED else ""
    return ("; ".join(map(str, found[:_LISTED])) or "none") + more


def in_steps(array: np.ndarray, axes: Sequence[str], inner: int) -> np.ndarray:
    """An array (number, …) or (chains, number, …) as (steps, chains, …)."""
    if array.ndim == inner + 1:
        return array[:, None]
    return array if tuple(axes[:2]) == ("step", "chain") else array.swapaxes(0, 1)


def fitted(path: Path, array: np.ndarray, action: Action) -> Tensor:
    """The configurations (steps, chains, …) as the kind of field holds them.

    Raises:
        EnsembleError: for complex numbers where the field has none, numbers that are not finite, and what are
            no values of the field; naming the first configuration.
    """
    kind = action.kind
    wanted = kind.start(action.lattice, 1, Generator().manual_seed(0), torch.float64).dtype
    if array.dtype.kind == "c" and not wanted.is_complex:
        raise EnsembleError(
            f"{path}: expected real numbers for a {kind} field, got {array.dtype}: angles are numpy.angle(U)"
        )
    if not len(array):
        raise EnsembleError(f"{path}: expected configurations, got none")
    for step, part in enumerate(array):
        if not np.isfinite(part).all():
            chain, *where = np.argwhere(~np.isfinite(part))[0].tolist()
            raise EnsembleError(
                f"{path}: expected finite numbers, got {part[(chain, *where)]} in configuration {step}"
                f"{f' of chain {chain}' if array.shape[1] > 1 else ''} at {tuple(where)}, counted from 0"
            )
        if not wanted.is_floating_point and not wanted.is_complex and (part != np.rint(part)).any():
            raise EnsembleError(f"{path}: expected whole numbers, got others in configuration {step}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    fields = torch.from_numpy(np.array(native, order="C"))
    if fields.dtype != wanted and (not fields.is_floating_point() or not wanted.is_floating_point):
        fields = fields.to(wanted)
    for first in range(0, len(fields), _AT_ONCE):
        part = fields[first : first + _AT_ONCE].flatten(0, 1)
        try:
            kind.check_values(part)
            if kind.manifold is not None:
                own = kind.manifold.canonical(part)
                if float(kind.distance(part, own).max()) > _CLOSE:
                    raise ValueError(f"expected values of a {kind} field, got others among them")
                fields[first : first + _AT_ONCE] = own.view_as(fields[first : first + _AT_ONCE])
        except ValueError as error:
            last = min(first + _AT_ONCE, len(fields)) - 1
            raise EnsembleError(f"{path}, configurations {first} to {last}: {error}") from error
    return fields


def _check_side_car(path: Path, stored: Stored, side_car: SideCar | None) -> None:
    if side_car is None:
        return
    if side_car.shape is not None and side_car.shape != stored.shape:
        shorter = len(side_car.shape) == len(stored.shape) and all(
            there <= said for there, said in zip(stored.shape, side_car.shape, strict=True)
        )
        raise EnsembleError(
            f"{path} {'is truncated' if shorter else 'is another file'}: {side_car.path.name} says "
            f"{side_car.shape}, and the array is {stored.shape}"
        )
    if side_car.dtype is not None and side_car.dtype not in (stored.dtype.str, str(stored.dtype)):
        raise EnsembleError(
            f"{path}: {side_car.path.name} says {side_car.dtype}, and the array is {stored.dtype}"
        )


def _check_digest(path: Path, digest: str, side_car: SideCar | None) -> None:
    said = side_car.sha256.lower() if side_car is not None and side_car.sha256 is not None else None
    if said is None or said == digest:
        return
    # elsewhere a checksum is that of the whole file
    if path.is_file():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == said:
                return
    assert side_car is not None
    raise EnsembleError(
        f"{path} is damaged, or not the file of {side_car.path.name}: expected the checksum {said[:16]}…, "
        f"found {digest[:16]}… of the array: copy both again"
    )


def _unchecked(path: Path, stored: Stored, side_car: SideCar | None) -> list[str]:
    if stored.guarded or (side_car is not None and side_car.sha256 is not None):
        return []
    return [f"{path.name} has no checksum: damage to its numbers would not be noticed."]
