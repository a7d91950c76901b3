"""Densities of every kind by name: flows and networks of spins, built from recipes, kept in files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Generator

from latflow import flows
from latflow.autoregressive import presets
from latflow.autoregressive.base import SpinNetwork
from latflow.flows import Flow
from latflow.flows.files import build_from, contents_of, load_from, load_weights, save_flow

NamedDensity = Flow | SpinNetwork
"""A density that a preset builds: it knows its `lattice` and its `recipe`."""

DENSITIES: dict[str, Callable[..., NamedDensity]] = {**flows.BUILDERS, **presets.BUILDERS}
"""The presets of all densities by the name that a configuration or a file uses."""

save_density = save_flow

__all__ = [
    "DENSITIES",
    "NamedDensity",
    "build_density",
    "contents_of",
    "load_density",
    "load_weights",
    "save_density",
]


def build_density(recipe: dict[str, Any], generator: Generator | None = None) -> NamedDensity:
    """The density of a recipe: `type`, a name in `DENSITIES`, and the arguments of that preset.

    Raises:
        ValueError: for a type or an argument that no preset has, naming the legal ones.

    >>> build_density({"type": "dense", "lattice": [4, 6], "hidden": [2]}).lattice
    (4, 6)
    """
    return build_from(DENSITIES, recipe, generator)


def load_density(path: Path | str) -> NamedDensity:
    """The density that `save_density` wrote, or a run as its best, in the precision in which it was.

    Raises:
        CheckpointError: when the file is missing, truncated, or holds no density.
    """
    return load_from(DENSITIES, path)
