"""The checkpoints of a run: each with the one before, which takes its place where it is damaged."""

import logging
from functools import cache
from pathlib import Path
from typing import Any, Literal

from latflow.errors import CheckpointError
from latflow.runs.provenance import Stage
from latflow.storage import load_tree, put_in_place, save_tree

CheckpointName = Literal["last", "best", "model", "beside"]
"""What a stage writes again and again."""

_LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in the folder of a run, and its training records.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path

    @property
    def history_file(self) -> Path:
        """The training records."""
        return self.path / "history.jsonl"

    def checkpoint(self, name: str) -> Path:
        """The file of a checkpoint: init, last, best, model, beside."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def checkpoint_before(self, name: str) -> Path:
        """The file of what that checkpoint was before it was written the last time."""
        return self.checkpoint(f"{name}.before")

    def keep(self, name: CheckpointName, tree: dict[str, Any]) -> None:
        """Write a checkpoint, and keep the one before."""
        save_tree(self.checkpoint(name), tree, self.checkpoint_before(name))

    def stored(self, name: str, *entries: str) -> dict[str, Any]:
        """The checkpoint of a name, whatever settings made it.

        Raises:
            CheckpointError: when it is damaged, or lacks one of the `entries`; saying how to go on.
        """
        path = self.checkpoint(name)
        try:
            tree = load_tree(path)
        except CheckpointError as error:
            tree = self._before(name)
            if tree is None:
                raise CheckpointError(f"{error}: {remedy(name)}") from error
            _tell(f"{error}: the one before is taken in its place, {self.checkpoint_before(name).name}")
        if missing := [entry for entry in entries if entry not in tree]:
            raise CheckpointError(f"{path} holds no {missing[0]!r}, but {', '.join(tree)}: {remedy(name)}")
        return tree

    def _before(self, name: str) -> dict[str, Any] | None:
        """What may stand in for a checkpoint that is damaged: the one before; None where that is no better.

        The best weights have none: those before were not the best.
        """
        path = self.checkpoint_before(name)
        if name == "best" or not self.checkpoint(name).exists() or not path.exists():
            return None
        try:
            return load_tree(path)
        except CheckpointError:
            return None

    def mend(self, name: CheckpointName) -> None:
        """Put the checkpoint before in the place of one that is damaged, lest that be kept.

        Call this where the folder is held, before the stage goes on from it.
        """
        path = self.checkpoint(name)
        if not path.exists():
            return
        try:
            load_tree(path)
        except CheckpointError:
            if self._before(name) is not None:
                self.stored(name)  # which tells of it
                put_in_place(self.checkpoint_before(name), path)

    def done(self) -> dict[Stage, int]:
        """The steps that each stage has made, where it has begun."""
        found: dict[Stage, int] = {}
        if self.checkpoint("last").exists():
            found["training"] = self.stored("last", "trainer")["trainer"]["step"]
        elif self.history_file.exists():
            found["training"] = 0
        chains: tuple[Stage, ...] = ("model", "beside")
        for chain in chains:
            if self.checkpoint(chain).exists():
                found[chain] = self.stored(chain, "steps")["steps"]
        return found

    def require_best(self) -> None:
        """A training that came to a checkpoint that was due has kept its best weights.

        Raises:
            CheckpointError: when they are gone.
        """
        last, best = self.checkpoint("last"), self.checkpoint("best")
        if last.exists() and not best.exists() and self.stored("last", "best")["best"]["step"]:
            raise CheckpointError(
                f"{best} is gone, while {last.name} is there: put it back, or remove {last.name} too, and "
                "this stage is computed anew"
            )


@cache
def _tell(line: str) -> None:
    """Warn of what is met at every look, once."""
    _LOG.warning(line)


def remedy(name: str) -> str:
    """What to do about a checkpoint that cannot be read."""
    names = f"{name}.safetensors" if name != "best" else "best.safetensors and last.safetensors"
    return f"remove {names} there, and this stage is computed anew"
