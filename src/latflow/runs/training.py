"""The training of a run: records and checkpoints on disk, and the way back to them."""

import hashlib
import json
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedRandom
from typing import Any

from torch import nn

from latflow.config.sections import arguments_of
from latflow.densities.files import load_weights
from latflow.errors import CheckpointError, ConfigError, RunFolderError
from latflow.estimators import estimator_of
from latflow.plain_files import read_whole
from latflow.runs.checkpoints import CheckpointName
from latflow.runs.folder import RunFolder
from latflow.runs.provenance import plain
from latflow.storage import load_tree
from latflow.training import Record, Trainer
from latflow.training.world import World

_LOG = logging.getLogger(__name__)
_LARGEST = 2**34
"""Bytes of a history."""

OnRecord = Callable[[Record], None]
"""Told of each step, after its record is written; every process tells its own."""


def train(folder: RunFolder, on_record: OnRecord | None = None) -> None:
    """Train to the end, from the last checkpoint where there is one; a run without a model does nothing.

    Steps after that checkpoint whose records were written already are computed again, with the same numbers,
    and not written twice. The weights kept as best are those at the checkpoint (there is one every
    `checkpoint_every` steps, and one at the end) before which F_q, averaged over as many steps, was lowest;
    of an estimator whose averages run over the target, highest.
    Steps for which the action was annealed, or on another lattice, do not count: their F_q is another. Of no
    steps at all the weights are kept as they are.

    Where as many steps in a row are not finite as `max_skipped` allows, the training goes back to the best
    weights at half the rate; where that has happened three times, the next such row stops it.

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
    if folder.config.model is None:
        return
    world = World.here()
    folder.check_processes()
    with folder.stage(world) as stop:
        model = folder.first_model()
        trainer = _trainer(folder, model)
        best = _Best(folder.config.training.checkpoint_every, trainer.settled, trainer.estimator.of_target)
        if _restore(folder, model, trainer, best):
            return
        trainer.estimator.prepare(folder.action)
        with _history(folder if world.rank == 0 else None) as history:

            def keep(step: int, due: bool) -> None:
                if due and best.improved(step):
                    _save(folder, "best", _contents(folder, model) | {"step": best.step, "f_q": best.f_q})
                history.sync()
                state = {
                    "trainer": trainer.state_dict(),
                    "best": best.state_dict(),
                    "history": history.known(),
                    "device": folder.device.type,
                }
                _save(folder, "last", _contents(folder, model) | state)

            if trainer.steps == 0:  # the weights as they are
                keep(0, due=True)
            for record in trainer:
                history.append(record)
                best.see(record)
                due = record.step % best.window == 0 or record.step == trainer.steps
                if trainer.lost:
                    _retreat(folder, trainer, best.step if math.isfinite(best.f_q) else 0)
                stopping = stop.agreed()  # asked once: what stops here is what is saved here
                if due or stopping:
                    keep(record.step, due)
                if on_record is not None:
                    on_record(record)
                if stopping:
                    stop.heed()


def _retreat(folder: RunFolder, trainer: Trainer, step: int) -> None:
    """Let a training go back to its best weights, of a step; to those that it began with where it has none.

    A checkpoint of a later step is no place to go back to: it is of a process that was killed, and will be
    computed again.
    """

    def read() -> dict[str, Any]:
        for path in (folder.checkpoint("best"), folder.checkpoint_before("best")):
            if path.exists() and (tree := load_tree(path)).get("step") == step:
                return tree["weights"]
        raise CheckpointError(
            f"{folder.checkpoint('best')} is not of step {step}: remove best.safetensors and "
            "last.safetensors there, and the training is computed anew"
        )

    weights = trainer.world.from_first(read) if step else folder.first_model().state_dict()
    skipped = trainer.skipped_in_a_row
    trainer.retreat(weights)
    if trainer.world.rank == 0:
        _LOG.warning(
            "step %d: %d steps in a row were not finite: back to the weights of step %d, at a learning rate "
            "of %.3g",
            trainer.step,
            skipped,
            step,
            trainer.rate,
        )


def trained_steps(folder: RunFolder) -> int:
    """How many steps the last checkpoint holds."""
    exists = folder.checkpoint("last").exists()
    return folder.load("last", "trainer")["trainer"]["step"] if exists else 0


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


def read_history(folder: RunFolder) -> list[dict[str, Any]]:
    """The records of a training, without a last line that was cut off; null stands for nan.

    Raises:
        RunFolderError: when a line is no record, or another one than the last checkpoint knows.
    """
    path = folder.history_file
    try:
        contents = read_whole(path, _LARGEST) if path.exists() else b""
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error
    if folder.checkpoint("last").exists():
        known = folder.load("last", "history")["history"]
        if hashlib.sha256(contents[: known["bytes"]]).hexdigest() != known["digest"]:
            raise RunFolderError(
                f"{path} is missing or damaged: put it back, or remove it and the checkpoints last and best, "
                "and the training is computed anew"
            )
    records = []
    for number, line in enumerate(contents.split(b"\n")[:-1], start=1):
        try:
            record: dict[str, Any] = {
                key: math.nan if value is None else value for key, value in json.loads(line).items()
            }
            if record["step"] != number:
                raise ValueError(f"of step {record['step']}")
            records.append(Record(**record).as_dict())
        except (LookupError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise RunFolderError(
                f"{path} is damaged: line {number} is no record of a step ({error}): remove that line and "
                "what follows, and these steps are computed anew"
            ) from error
    return records


class _History:
    """Appends records that the file does not hold yet; without a file none.

    Those of steps that are computed again must be what is there: beyond the last checkpoint there is no
    digest that would tell damage.
    """

    def __init__(self, file: BufferedRandom | None = None, contents: bytes = b"") -> None:
        self.file = file
        self.lines = contents.split(b"\n")[:-1]
        self.bytes, self.digest = len(contents), hashlib.sha256(contents)

    def append(self, record: Record) -> None:
        if self.file is None:
            return
        if record.step <= len(self.lines):
            if _timeless(record.as_dict()) == _timeless(json.loads(self.lines[record.step - 1])):
                return
            _LOG.warning(
                "%s: the records from step %d on are not those that are computed now: they are written anew",
                self.file.name,
                record.step,
            )
            self._cut(record.step - 1)
        line = json.dumps(plain(record.as_dict()), allow_nan=False).encode()
        self.file.write(line + b"\n")
        self.file.flush()
        self.lines.append(line)
        self.bytes += len(line) + 1
        self.digest.update(line + b"\n")

    def _cut(self, steps: int) -> None:
        """Leave so many lines."""
        assert self.file is not None
        self.lines = self.lines[:steps]
        contents = b"".join(line + b"\n" for line in self.lines)
        self.file.truncate(len(contents))
        self.bytes, self.digest = len(contents), hashlib.sha256(contents)

    def known(self) -> dict[str, Any]:
        """What a checkpoint says of the history up to it."""
        return {"bytes": self.bytes, "digest": self.digest.hexdigest()}

    def sync(self) -> None:
        """Reach the disk: a checkpoint must never be ahead of the history."""
        if self.file is not None:
            os.fsync(self.file.fileno())


@contextmanager
def _history(folder: RunFolder | None) -> Iterator[_History]:
    """The history, open for appending, without a last line that was cut off by a crash or a full disk."""
    if folder is None:
        yield _History()
        return
    read_history(folder)  # all lines are records
    with folder.history_file.open("a+b") as file:
        file.seek(0)
        contents = file.read()
        contents = contents[: contents.rfind(b"\n") + 1]
        file.truncate(len(contents))
        yield _History(file, contents)


def _timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON has it, less its time."""
    return {key: value for key, value in plain(dict(record)).items() if key != "seconds"}


@dataclass
class _Best:
    """Finds the checkpoint before which F_q, averaged over `window` steps, was lowest.

    Where the averages run over the target, F_q lies below F and rises: then the highest counts.
    """

    window: int
    settled: Callable[[int], bool] = lambda step: True  # noqa: ARG005
    rises: bool = False
    f_q: float = field(init=False)
    step: int = 0
    sound: bool = True
    recent: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self.recent, self.f_q = deque(maxlen=self.window), self.worst

    @property
    def worst(self) -> float:
        """No better than any."""
        return -math.inf if self.rises else math.inf

    def see(self, record: Record) -> None:
        self.sound = not record.skipped
        if self.sound and self.settled(record.step - 1):
            # nan and what is better than any are none: neither may hide in the average of others
            sound = record.f_q < math.inf if self.rises else record.f_q > -math.inf
            self.recent.append(record.f_q if sound else self.worst)

    def improved(self, step: int) -> bool:
        mean = math.fsum(self.recent) / len(self.recent) if self.recent else self.worst
        better = mean > self.f_q if self.rises else mean < self.f_q
        # the first checkpoint counts as best whatever it is, so that there is one; what fails is no better
        if not (better and self.sound) and self.step:
            return False
        self.f_q, self.step = mean if self.sound else self.worst, step
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"f_q": self.f_q, "step": self.step, "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.f_q, self.step = state["f_q"], state["step"]
        self.recent = deque(state["recent"], maxlen=self.window)


def _trainer(folder: RunFolder, model: Any) -> Trainer:
    arguments = arguments_of(folder.config.training)
    del arguments["checkpoint_every"], arguments["init_from"]
    try:
        estimator = estimator_of(arguments.pop("estimator"), arguments.pop("estimator_options"))
        return Trainer(model, folder.action, estimator, generator=folder.generator("training"), **arguments)
    except ValueError as error:
        raise ConfigError(f"training: {error}") from error


def _contents(folder: RunFolder, model: nn.Module) -> dict[str, Any]:
    """What a checkpoint says of the model: how it was built and trained, and its weights."""
    assert folder.config.model is not None
    recipe = getattr(model, "recipe", None) or folder.config.model.table()
    return {"model": recipe, "made_by": folder.made_by("training"), "weights": model.state_dict()}


def _save(folder: RunFolder, name: CheckpointName, tree: dict[str, Any]) -> None:
    if World.here().rank == 0:
        folder.keep(name, tree)


def _restore(folder: RunFolder, model: nn.Module, trainer: Trainer, best: _Best) -> bool:
    """Go back to the last checkpoint, where there is one; whether it is that of the end."""
    path = folder.checkpoint("last")

    def read() -> dict[str, Any] | None:
        folder.mend("last")
        return folder.load("last", "trainer", "best", "weights", "device") if path.exists() else None

    # all go on from what the first has read: the others may not see the same disk
    tree = trainer.world.from_first(read)
    if tree is None:
        return False
    trainer.world.from_first(folder.require_best)
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
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is of another training: {error}") from error
    best.load_state_dict(tree["best"])
    return False
