"""What a named flow was built from, as a file can hold it."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from latflow.flows.base import Flow


def recipe_of(name: str, preset: Callable[..., Flow], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a preset as a file can hold them."""
    names = set(inspect.signature(preset).parameters) - {"generator"}
    plain = {
        key: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for key, value in arguments.items()
        if key in names
    }
    return {"type": name} | plain
