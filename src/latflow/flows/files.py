"""Named flows and their files: a recipe and weights, never a pickle.

What does not depend on flows alone takes a registry of builders, so that other densities are stored alike.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, nn

from latflow.errors import CheckpointError
from latflow.flows.base import Flow
from latflow.flows.gauge_presets import gauge_flow
from latflow.flows.minimal import minimal_flow
from latflow.flows.presets import affine_flow, spline_flow
from latflow.storage import load_tree, save_tree

Model = TypeVar("Model", bound=nn.Module)

BUILDERS: dict[str, Callable[..., Flow]] = {
    "affine": affine_flow,
    "spline": spline_flow,
    "minimal": minimal_flow,
    "gauge": gauge_flow,
}
"""The presets by the name that a configuration or a file uses."""


def build_flow(recipe: dict[str, Any], generator: Generator | None = None) -> Flow:
    """The flow of a recipe: `type`, a name in `BUILDERS`, and the arguments of that preset.

    Raises:
        ValueError: for a type or an argument that no preset has, naming the legal ones.
    """
    return build_from(BUILDERS, recipe, generator)


def build_from(
    builders: Mapping[str, Callable[..., Model]], recipe: dict[str, Any], generator: Generator | None = None
) -> Model:
    """What the builder of the recipe's `type` makes of its other entries. Raises as `build_flow`."""
    arguments = dict(recipe)
    name = arguments.pop("type", None)
    if name not in builders:
        raise ValueError(f"expected a flow type out of {', '.join(builders)}, got {name!r}")
    legal = set(inspect.signature(builders[name]).parameters) - {"generator"}
    if unknown := set(arguments) - legal:
        raise ValueError(
            f"expected arguments out of {', '.join(sorted(legal))}, got {', '.join(sorted(unknown))}"
        )
    return builders[name](**arguments, generator=generator)


def save_flow(flow: nn.Module, path: Path | str) -> None:
    """Write the recipe and the weights of a density that a preset built to one file, whole or not at all.

    Raises:
        ValueError: for a density that no preset built: only its `state_dict` can be stored.
    """
    if getattr(flow, "recipe", None) is None:
        raise ValueError("expected a flow built by a preset; of one composed by hand store the state_dict")
    save_tree(Path(path), contents_of(flow))


def contents_of(flow: nn.Module) -> dict[str, Any]:
    """What a file holds of a density: the recipe as "flow", and the weights."""
    return {"flow": flow.recipe, "weights": flow.state_dict()}


def load_flow(path: Path | str) -> Flow:
    """The flow that `save_flow` wrote, in the precision in which it was.

    Raises:
        CheckpointError: when the file is missing, truncated, or holds no flow.
    """
    return load_from(BUILDERS, path)


def load_from(builders: Mapping[str, Callable[..., Model]], path: Path | str) -> Model:
    """The density that `save_flow` wrote, built by one of the builders. Raises as `load_flow`."""
    tree = load_tree(Path(path))
    if not isinstance(tree.get("flow"), dict) or not isinstance(tree.get("weights"), dict):
        raise CheckpointError(f"{path} holds no flow: expected 'flow' and 'weights', got {sorted(tree)}")
    try:
        flow = build_from(builders, tree["flow"])
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} holds a flow that this version cannot build: {error}") from error
    load_weights(flow, tree["weights"], path)
    return flow


def load_weights(flow: nn.Module, weights: dict[str, Any], path: Path | str) -> None:
    """Put stored weights into a density and take over their precision.

    Raises:
        CheckpointError: when names or shapes are those of another model, naming the first that differs.
    """
    expected = {name: tuple(values.shape) for name, values in flow.state_dict().items()}
    found = {name: tuple(values.shape) for name, values in weights.items()}
    for name in sorted(set(expected) | set(found)):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{path} is the checkpoint of another model: for {name} expected shape "
                f"{expected.get(name, 'nothing')}, got {found.get(name, 'nothing')}"
            )
    flow.to(next(iter(weights.values())).dtype if weights else torch.get_default_dtype())
    flow.load_state_dict(weights)
