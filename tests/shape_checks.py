"""Shapes are checked in the first calls of each function in each test, and no more.

To bind the arguments of every call took more than half of the time of tests of whole runs. What is not called
costs nothing: its checks are made when it is called first. Programs that PyTorch compiles are those of the
bare functions.
"""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import jaxtyping
import torch

MOST = 5
"""Calls of a function that are checked in each test."""

_test = [0]
_jaxtyped = jaxtyping.jaxtyped


def new_test() -> None:
    """Count calls from none again."""
    _test[0] += 1


def install() -> None:
    """Let the import hook of jaxtyping decorate with this; before anything is imported that it decorates."""
    jaxtyping.jaxtyped = _decorator


def _decorator(*, typechecker: Any) -> Callable[[Any], Any]:
    def decorate(thing: Any) -> Any:
        if isinstance(thing, FunctionType):
            return _checked_at_first(thing, typechecker)
        return _jaxtyped(thing, typechecker=typechecker)

    return decorate


def _checked_at_first(function: FunctionType, typechecker: Any) -> Callable[..., Any]:
    checked, test, calls = None, -1, 0

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        nonlocal checked, test, calls
        if test != _test[0]:
            test, calls = _test[0], 0
        if calls >= MOST:
            return function(*args, **kwargs)
        calls += 1
        if checked is None:
            checked = _jaxtyped(function, typechecker=typechecker)
        return checked(*args, **kwargs)

    return wrapper
