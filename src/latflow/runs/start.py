"""Where a training starts when that is at the weights of another run, on whatever lattice that was."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from latflow.config.checking import built_model
from latflow.densities.files import load_weights
from latflow.errors import CheckpointError, ConfigError
from latflow.runs.place import CONFIG, file_digest
from latflow.storage import load_tree, save_tree

if TYPE_CHECKING:
    from latflow.runs.folder import RunFolder


def read_start(folder: "RunFolder") -> dict[str, Any] | None:
    """What `training.init_from` names, which a new run is to keep for itself; None where it names nothing.

    The tree holds "model" and "weights" as the file does, the "lattice" of both, and of the file its "path"
    and "digest".

    Raises:
        ConfigError: when it is no run and no checkpoint, a run without trained weights, or one whose model
            cannot be that of this run; naming what differs.
    """
    training = folder.config.training
    if training is None or training.init_from is None:
        return None
    named = training.init_from
    try:
        tree = _contents(Path(named))
        started(folder, tree, named)
    except (CheckpointError, ValueError, TypeError) as error:
        raise ConfigError(f"training.init_from: {error}") from error
    return tree


def _contents(path: Path) -> dict[str, Any]:
    file = path / "checkpoints" / "best.safetensors" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        what = "has trained weights" if (path / CONFIG).exists() else "is a run"
        raise ValueError(f"expected a folder that {what}, got {str(path)!r}")
    if not file.exists():
        raise ValueError(f"expected the folder of a run or a checkpoint, found nothing at {str(path)!r}")
    tree = load_tree(file)
    if not isinstance(tree.get("weights"), dict):
        raise ValueError(f"expected the weights of a model in {file}, got {', '.join(tree) or 'nothing'}")
    recipe, settings = tree.get("model") or {}, tree.get("made_by", {})
    lattice = recipe.get("lattice") or settings.get("action.lattice")
    return {
        "model": recipe,
        "weights": tree["weights"],
        "lattice": lattice,
        "path": str(file.resolve()),
        "digest": file_digest(file),
    }


def keep_start(folder: "RunFolder", tree: Mapping[str, Any]) -> None:
    """Copy it into the folder: what becomes of the other run is then all the same."""
    save_tree(folder.checkpoint("init"), dict(tree))


def started(folder: "RunFolder", tree: Mapping[str, Any], where: Path | str) -> nn.Module:
    """The model of a run with the weights of another, moved from its lattice by `on_lattice`.

    Args:
        folder: of the run.
        tree: as `read_start` has it.
        where: it lies, for errors.

    Raises:
        CheckpointError: for weights of another model, naming the first that differs.
        ValueError: for another lattice, where the theory or the model is bound to its own.
    """
    model, action = folder.new_model(), folder.action
    lattice = tuple(tree["lattice"] or action.lattice)
    if lattice == action.lattice:
        load_weights(model, tree["weights"], where)
    else:
        if not hasattr(model, "on_lattice"):
            raise ValueError(
                f"expected a model with `on_lattice` to take weights from {lattice} to {action.lattice}, got "
                f"{type(model).__name__}"
            )
        assert folder.config.model is not None
        there = built_model(folder.config.model, action.on_lattice(lattice))
        load_weights(there, tree["weights"], where)
        load_weights(model, there.on_lattice(action.lattice).state_dict(), where)
    return model.to(device=folder.device, dtype=folder.config.compute.torch_dtype)
