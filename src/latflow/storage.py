"""Files that survive a crash: trees of tensors as safetensors, written whole or not at all, never pickled."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from latflow.errors import CheckpointError

_TREE_KEY = "latflow_tree"
_TENSOR_MARK = "__tensor__"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path`, which takes its place when the block ends well and vanishes otherwise.

    The contents reach the disk before the name changes, so that after a crash or on a full disk `path` holds
    either the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tree(path: Path, tree: dict[str, Any]) -> None:
    """Save nested dicts and lists of tensors, numbers, strings, booleans and None, whole or not at all.

    The tensors are the safetensors of the file, everything else is JSON in its metadata. Keys become strings,
    tuples lists.

    Raises:
        TypeError: for anything else in the tree, naming the place.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    skeleton = _take_tensors(tree, "", tensors)
    contents = save(tensors, metadata={_TREE_KEY: json.dumps(skeleton)})
    with replacing(path) as temporary:
        temporary.write_bytes(contents)


def load_tree(path: Path) -> dict[str, Any]:
    """Load what `save_tree` saved; tensors arrive on the CPU.

    Raises:
        CheckpointError: when the file is missing, truncated, or was not written by `save_tree`.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint at {path}, found no such file")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or no checkpoint of latflow ({error})") from error
    if _TREE_KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of latflow")
    try:
        return _put_tensors(json.loads(metadata[_TREE_KEY]), tensors)
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its tree and its tensors do not fit ({error})") from error


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
