"""Recipes: what a density, or a part of one, was built from, as a file can hold it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SUPPLIED = frozenset({"kind", "action", "generator"})
"""What a constructor is handed where it asks for it, and no recipe holds. The lattice comes from either."""


_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def recipe_of(name: str, preset: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The name of a preset with its arguments, without those that a file cannot hold.

    Args:
        name: as it is registered.
        preset: which has the arguments.
        arguments: by name; others, such as local variables, are left out.
    """
    names = set(inspect.signature(preset).parameters) - SUPPLIED
    return {"type": name} | {key: plain(value) for key, value in arguments.items() if key in names}


def plain(value: Any) -> Any:
    """Sequences as lists and mappings as dicts, at any depth."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    return value


def constructed(maker: Callable[..., Any], keys: Mapping[str, Any], supplied: Mapping[str, Any]) -> Any:
    """What a class or a function makes of the keys of a recipe, and of what is supplied as far as it asks.

    Args:
        maker: its signature says which arguments are legal.
        keys: the recipe without its type.
        supplied: handed over by name where the maker has such an argument. No key stands for one of these,
            but for the lattice.

    Raises:
        ValueError: for a key that is no argument, naming the legal ones, and for an argument that is missing.
    """
    parameters = inspect.signature(maker).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    reserved = (SUPPLIED | set(supplied)) - {"lattice"}
    legal = [name for name, one in parameters.items() if name not in reserved and one.kind not in _MANY]
    if unknown := [key for key in keys if key not in legal and (key in reserved or not takes_any)]:
        raise ValueError(f"expected arguments out of {', '.join(legal)}, got {', '.join(unknown)}")
    given = {key: value for key, value in supplied.items() if key in parameters} | dict(keys)
    needed = [name for name in legal if parameters[name].default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"expected the arguments {', '.join(missing)} too, got {', '.join(given) or None}")
    return maker(**given)
