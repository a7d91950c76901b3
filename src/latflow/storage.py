"""Files that survive a crash: trees of tensors as safetensors, written whole or not at all, never pickled."""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latflow.errors import CheckpointError

_TREE_KEY, _DIGEST_KEY = "latflow_tree", "latflow_digest"
_TENSOR_MARK = "__tensor__"
DIGEST = "digest"
"""The key of the digest in files of JSON."""
_WINDOWS = os.name == "nt"
_LEFT = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]+)\.tmp")
"""The names of temporary files: with the machine and the process that write them."""
_ABANDONED = 3600.0
"""Seconds after which what another machine has begun to write is taken as left."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path`, which takes its place when the block ends well and vanishes otherwise.

    The contents reach the disk before the name changes, so that after a crash or on a full disk `path` holds
    either the old file or the new one. What processes that were killed have left beside it goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.tmp")
    try:
        yield temporary
        reach_disk(temporary)
        temporary.replace(path)
        reach_disk(path.parent)
        sweep(path.parent, path.stat().st_mtime)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """By which processes of this machine know each other's files; short, as names must be."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def sweep(folder: Path, now: float | None = None) -> None:
    """Remove what processes that were killed have left half written in a folder.

    Those of this machine are known by their numbers; those of others by their age, where it is said.

    Args:
        folder: which need not be there.
        now: the time by the clock of the file system.
    """
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            if (found := _LEFT.fullmatch(file.name)) is None:
                continue
            if found[1] == _machine() and not _WINDOWS:
                left = not _lives(int(found[2]))
            else:
                left = now is not None and file.stat().st_mtime < now - _ABANDONED
            if left:
                file.unlink(missing_ok=True)


def _lives(number: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of somebody else
        return True
    return True


def reach_disk(path: Path) -> None:
    """Wait until the contents of a file, or the names in a folder, are on the disk.

    Windows opens no folders, and for this asks to be able to write.
    """
    if _WINDOWS and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whatever the locale, whole or not at all."""
    # names of files come as lone surrogates where the locale cannot read them
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    with replacing(path) as temporary:
        temporary.write_text(readable, encoding="utf-8")


def with_digest(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table for JSON with a digest of all that is in it, by which `digest_holds` knows damage."""
    plain = {key: value for key, value in table.items() if key != DIGEST}
    return plain | {DIGEST: _digest(json.dumps(plain, sort_keys=True), {})}


def digest_holds(table: Mapping[str, Any]) -> bool:
    """Whether a table is the one that `with_digest` has seen, or has no digest, as earlier ones."""
    return DIGEST not in table or with_digest(table)[DIGEST] == table[DIGEST]


def save_tree(path: Path, tree: dict[str, Any], before: Path | None = None) -> None:
    """Save nested dicts and lists of tensors, numbers, strings, booleans and None, whole or not at all.

    The tensors are the safetensors of the file, everything else is JSON in its metadata, together with a
    digest of all of it. Keys become strings, tuples lists.

    Args:
        path: of the file.
        tree: what it is to hold.
        before: where what it held until now is kept; it goes if None.

    Raises:
        TypeError: for anything else in the tree, naming the place.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_take_tensors(tree, "", tensors))
    metadata = {_TREE_KEY: skeleton, _DIGEST_KEY: _digest(skeleton, tensors)}
    contents = save(tensors, metadata=metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(contents)
        if before is not None and path.exists():
            put_in_place(path, before)


def put_in_place(path: Path, target: Path) -> None:
    """Let `target` hold what `path` holds, which stays, without a moment at which it holds nothing."""
    with replacing(target) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links, or full
            shutil.copyfile(path, temporary)


def load_tree(path: Path) -> dict[str, Any]:
    """Load what `save_tree` saved; tensors arrive on the CPU.

    Raises:
        CheckpointError: when the file is missing, truncated, was not written by `save_tree`, or has changed
            since.
    """
    metadata, tensors = _contents(path)
    skeleton = metadata[_TREE_KEY]
    if _digest(skeleton, tensors) != metadata[_DIGEST_KEY]:
        raise CheckpointError(f"{path} is damaged: its contents are not those that were written")
    try:
        tree = _put_tensors(json.loads(skeleton), tensors)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no checkpoint of latflow ({type(error).__name__})") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path} is no checkpoint of latflow: expected a table in it")
    return tree


def digest_of(path: Path) -> str:
    """The digest of what `save_tree` wrote, by which two files are known to hold the same.

    Raises:
        CheckpointError: as `load_tree`, of which this reads the metadata alone.
    """
    return _contents(path, tensors=False)[0][_DIGEST_KEY]


def _others(path: Path) -> Iterator[str]:
    """The names of other checkpoints beside one; not those that are kept from before."""
    return (file.stem for file in path.parent.glob(f"*{path.suffix}") if not Path(file.stem).suffix)


def _contents(path: Path, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata of a file of `save_tree`, and its tensors where they are wanted."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        others = sorted(_others(path)) if path.suffix else []
        there = f"; there are {', '.join(others)}" if others else ""
        raise CheckpointError(f"expected a checkpoint at {path}, found no such file{there}")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            names = stored.keys() if tensors else ()
            found = {name: stored.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or no checkpoint of latflow ({error})") from error
    if _TREE_KEY not in metadata or _DIGEST_KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of latflow")
    return metadata, found


def _digest(skeleton: str, tensors: dict[str, Tensor]) -> str:
    """Of a tree and of the names, types, shapes and bytes of its tensors."""
    digest = hashlib.sha256(skeleton.encode())
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _take_tensors(node: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        # safetensors refuses tensors that share memory, and views that are not contiguous
        tensors[prefix] = node.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR_MARK: prefix}
    if isinstance(node, dict):
        names = [str(key) for key in node]
        if len(set(names)) < len(names) or _TENSOR_MARK in names:
            raise TypeError(f"expected keys that differ as strings, and not {_TENSOR_MARK!r}, got {names}")
        return {
            name: _take_tensors(value, f"{prefix}/{_escaped(name)}", tensors)
            for name, value in zip(names, node.values(), strict=True)
        }
    if isinstance(node, list | tuple):
        return [_take_tensors(value, f"{prefix}/{index}", tensors) for index, value in enumerate(node)]
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(
        f"expected tensors, numbers, strings and None in a checkpoint, got {type(node)} at {prefix!r}"
    )


def _escaped(name: str) -> str:
    """A key without slashes, as in a JSON pointer (RFC 6901), so that two places never share a name."""
    return name.replace("~", "~0").replace("/", "~1")


def _put_tensors(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, dict):
        if set(node) == {_TENSOR_MARK}:
            return tensors[node[_TENSOR_MARK]]
        return {key: _put_tensors(value, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [_put_tensors(value, tensors) for value in node]
    return node
