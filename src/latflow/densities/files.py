"""Densities from recipes, and their files: a recipe and weights, never a pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, nn

from latflow import registry
from latflow.densities.base import Density, WeightedSampler
from latflow.densities.recipe import constructed, plain
from latflow.errors import CheckpointError, ConfigError
from latflow.seeds import seeded
from latflow.storage import load_tree, save_tree


def build_density(recipe: Mapping[str, Any], generator: Generator | None = None, **supplied: Any) -> Any:
    """The density of a recipe.

    Args:
        recipe: `type`, which is a registered name, "module:Name" or "file.py:Name", and arguments of the
            constructor that it stands for.
        generator: draws the initial weights; a new one with seed 0 if None.
        supplied: `lattice`, `kind`, `action`: handed to a constructor that has such an argument.

    Returns:
        A density, or another weighted sampler. A module remembers its recipe as `recipe`.

    Raises:
        ConfigError: for a type that is not there.
        ValueError: for an argument that the constructor does not have, naming the legal ones; and what it
            raises itself. Likewise when it makes no density.

    >>> build_density({"type": "dense", "hidden": [2]}, lattice=(4, 6)).lattice
    (4, 6)
    """
    keys = dict(recipe)
    name = keys.pop("type", None)
    if not isinstance(name, str):
        raise ValueError(f"expected the recipe of a density with a type, got {dict(recipe)}")
    maker = registry.load("densities", name)
    density = constructed(maker, keys, supplied | {"generator": seeded(generator)})
    if not isinstance(density, Density | WeightedSampler):
        raise ValueError(
            f"expected {name} to make a density with sample and log_prob, or a weighted sampler with draws, "
            f"got {type(density).__name__}"
        )
    known = getattr(density, "recipe", None)
    if isinstance(density, nn.Module) and (known is None or known.get("type") != name):
        lattice = {"lattice": supplied["lattice"]} if "lattice" in supplied else {}
        density.recipe = plain({"type": name} | lattice | keys)
    return density


def save_density(density: nn.Module, path: Path | str) -> None:
    """Write the recipe and the weights of a density that was built by name to one file, whole or not at all.

    Raises:
        ValueError: for a density without recipe: only its `state_dict` can be stored.
    """
    if getattr(density, "recipe", None) is None:
        raise ValueError("expected a density built by name; of one composed by hand store the state_dict")
    save_tree(Path(path), contents_of(density))


def contents_of(density: nn.Module) -> dict[str, Any]:
    """What a file holds of a density: its recipe as "model", and the weights."""
    return {"model": getattr(density, "recipe", None), "weights": density.state_dict()}


def load_density(path: Path | str, **supplied: Any) -> Any:
    """The density that `save_density` wrote, or a run as its best, in the precision in which it was.

    Args:
        path: of the file.
        supplied: what a file cannot hold and the constructor asks for: the `kind` of a field of more than
            two states, the `action`.

    Raises:
        CheckpointError: when the file is missing, truncated, or holds no density.
    """
    return density_in(load_tree(Path(path)), path, **supplied)


def density_in(tree: Mapping[str, Any], path: Path | str, **supplied: Any) -> Any:
    """The density of what a file held. Raises as `load_density`."""
    if not isinstance(tree.get("model"), dict) or not isinstance(tree.get("weights"), dict):
        what = "a Markov chain" if "state" in tree else f"{', '.join(sorted(tree)) or 'nothing'}"
        raise CheckpointError(f"{path} holds {what}, and no model: expected 'model' and 'weights' in it")
    recipe = tree["model"]
    given = {key: value for key, value in supplied.items() if key not in recipe}
    try:
        density = build_density(recipe, **given)
    except (ConfigError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} holds a model that cannot be built here: {error}") from error
    load_weights(density, tree["weights"], path)
    return density


def load_weights(density: nn.Module, weights: Mapping[str, Any], path: Path | str) -> None:
    """Put stored weights into a density and take over their precision.

    Raises:
        CheckpointError: when names or shapes are those of another model, naming the first that differs.
    """
    expected = {name: tuple(values.shape) for name, values in density.state_dict().items()}
    found = {name: tuple(values.shape) for name, values in weights.items()}
    for name in sorted(set(expected) | set(found)):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{path} is the checkpoint of another model: for {name} expected shape "
                f"{expected.get(name, 'nothing')}, got {found.get(name, 'nothing')}"
            )
    precisions = [values.dtype for values in weights.values() if values.dtype.is_floating_point]
    density.to(precisions[0] if precisions else torch.get_default_dtype())
    density.load_state_dict(weights)
