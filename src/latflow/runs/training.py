"""The training of a run: records and checkpoints on disk, and the way back to them."""

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from typing import Any

from torch import nn

from latflow.config.sections import arguments_of
from latflow.densities.files import load_weights
from latflow.errors import CheckpointError, ConfigError, RunFolderError
from latflow.estimators import ESTIMATORS
from latflow.runs.folder import RunFolder, load_checkpoint, plain
from latflow.storage import save_tree
from latflow.training import Anneal, Record, Trainer
from latflow.training.world import World

OnRecord = Callable[[Record], None]
"""Told of each step, after its record is written; every process tells its own."""


def train(folder: RunFolder, on_record: OnRecord | None = None) -> None:
    """Train to the end, from the last checkpoint where there is one.

    Steps after that checkpoint whose records were written already are computed again, with the same numbers,
    and not written twice. The weights kept as best are those at the checkpoint (there is one every
    `checkpoint_every` steps, and one at the end) before which F_q, averaged over as many steps, was lowest.
    Steps for which the action was annealed do not count: their F_q belongs to another action.

    Of several processes that train together, see `latflow.training.joined`, the first alone reads and writes
    the folder; all stop at the same step.

    Raises:
        Interrupted: after a signal to any of the processes, with a checkpoint written.
        ConfigError: when the processes cannot share out the batch or the devices.
        CheckpointError: when the last checkpoint is damaged or of another model, or the training has not
            ended and was begun by another number of processes.
        TrainingError: when too many steps in a row are not finite.
        ProcessError: when another process was lost.
        RunFolderError: when another process holds the folder.
    """
    world = World.here()
    folder.check_processes()
    with folder.stage(world) as stop:
        model = folder.new_model()
        trainer = _trainer(folder, model)
        best = _Best(folder.config.training.checkpoint_every, trainer.anneal)
        if _restore(folder, model, trainer, best):
            return
        with _history(folder.history_file if world.rank == 0 else None) as history:
            for record in trainer:
                history.append(record)
                best.see(record)
                due = record.step % best.window == 0 or record.step == trainer.steps
                stopping = stop.agreed()  # asked once: what stops here is what is saved here
                if due and best.improved(record.step):
                    _save(folder, "best", _contents(folder, model) | {"step": best.step, "f_q": best.f_q})
                if due or stopping:
                    history.sync()
                    state = {"trainer": trainer.state_dict(), "best": best.state_dict()}
                    _save(folder, "last", _contents(folder, model) | state | {"device": folder.device.type})
                if on_record is not None:
                    on_record(record)
                if stopping:
                    stop.heed()


def trained_steps(folder: RunFolder) -> int:
    """How many steps the last checkpoint holds."""
    path = folder.checkpoint("last")
    return load_checkpoint(path, "trainer")["trainer"]["step"] if path.exists() else 0


def require_trained(folder: RunFolder) -> None:
    """Sampling needs weights that do not change any more.

    Raises:
        RunFolderError: when the training has not reached its end.
    """
    done, steps = trained_steps(folder), folder.config.training.steps
    if done < steps:
        raise RunFolderError(
            f"{folder.path} is trained for {done} of {steps} steps: `latflow train {folder.path}` goes on"
        )


def read_history(path: Path) -> list[dict[str, Any]]:
    """The records in a history file, without a last line that was cut off; null stands for nan."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [
        {key: math.nan if value is None else value for key, value in json.loads(line).items()}
        for line in lines
    ]


class _History:
    """Appends records that the file does not hold yet; without a file none."""

    def __init__(self, file: BufferedRandom | None = None, last_step: int = 0) -> None:
        self.file, self.last_step = file, last_step

    def append(self, record: Record) -> None:
        if self.file is not None and record.step > self.last_step:
            self.file.write(json.dumps(plain(record.as_dict()), allow_nan=False).encode() + b"\n")
            self.file.flush()
            self.last_step = record.step

    def sync(self) -> None:
        """Reach the disk: a checkpoint must never be ahead of the history."""
        if self.file is not None:
            os.fsync(self.file.fileno())


@contextmanager
def _history(path: Path | None) -> Iterator[_History]:
    """The history, open for appending, without a last line that was cut off by a crash or a full disk."""
    if path is None:
        yield _History()
        return
    records = read_history(path)
    with path.open("a+b") as file:
        file.seek(0)
        contents = file.read()
        if not contents.endswith(b"\n"):
            file.truncate(contents.rfind(b"\n") + 1)
        yield _History(file, records[-1]["step"] if records else 0)


@dataclass
class _Best:
    """Finds the checkpoint before which F_q, averaged over `window` steps, was lowest."""

    window: int
    anneal: Anneal | None = None
    f_q: float = math.inf
    step: int = 0
    recent: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self.recent = deque(maxlen=self.window)

    def see(self, record: Record) -> None:
        if not record.skipped and (self.anneal is None or self.anneal.done(record.step - 1)):
            self.recent.append(record.f_q)

    def improved(self, step: int) -> bool:
        mean = math.fsum(self.recent) / len(self.recent) if self.recent else math.inf
        # the first checkpoint counts as best whatever it is, so that there is one
        if mean >= self.f_q and self.step:
            return False
        self.f_q, self.step = mean, step
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"f_q": self.f_q, "step": self.step, "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.f_q, self.step = state["f_q"], state["step"]
        self.recent = deque(state["recent"], maxlen=self.window)


def _trainer(folder: RunFolder, model: Any) -> Trainer:
    arguments = arguments_of(folder.config.training)
    estimator = ESTIMATORS[arguments.pop("estimator")]
    del arguments["checkpoint_every"]
    try:
        return Trainer(model, folder.action, estimator, generator=folder.generator("training"), **arguments)
    except ValueError as error:
        raise ConfigError(f"training: {error}") from error


def _contents(folder: RunFolder, model: nn.Module) -> dict[str, Any]:
    """What a checkpoint says of the model: how it was built, and its weights."""
    recipe = getattr(model, "recipe", None) or folder.config.model.table()
    return {"model": recipe, "weights": model.state_dict()}


def _save(folder: RunFolder, name: str, tree: dict[str, Any]) -> None:
    if World.here().rank == 0:
        save_tree(folder.checkpoint(name), tree)


def _restore(folder: RunFolder, model: nn.Module, trainer: Trainer, best: _Best) -> bool:
    """Go back to the last checkpoint, where there is one; whether it is that of the end."""
    path = folder.checkpoint("last")
    # all go on from what the first has read: the others may not see the same disk
    tree = trainer.world.from_first(
        lambda: load_checkpoint(path, "trainer", "best", "weights", "device") if path.exists() else None
    )
    if tree is None:
        return False
    load_weights(model, tree["weights"], path)
    if tree["trainer"]["step"] >= trainer.steps:
        return True
    folder.require_device(tree["device"], path)
    model.to(device=folder.device)
    try:
        trainer.load_state_dict(tree["trainer"])
    except CheckpointError as error:
        raise CheckpointError(
            f"{path}: {error}: go on with as many processes as before, or remove {path.name}, and this stage "
            "is computed anew"
        ) from error
    best.load_state_dict(tree["best"])
    return False
