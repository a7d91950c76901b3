"""The folder of a run: what lies where, and the things that its configuration describes."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import platform
import shlex
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Generator, nn

from latflow.config import Given, RunConfig, differences, parse_config, to_toml
from latflow.config.schema import built_action, built_model
from latflow.densities.files import load_weights
from latflow.errors import CheckpointError, ConfigError, RunFolderError
from latflow.registry import sources
from latflow.runs.interrupts import StopRequest, deferred_signals
from latflow.runs.trial import try_out
from latflow.seeds import derived_seed
from latflow.storage import load_tree, write_text
from latflow.theories import Action
from latflow.training.world import ALONE, World, launched
from latflow.version import __version__

Folder = TypeVar("Folder", bound="RunFolder")
Purpose = Literal["initialisation", "training", "model", "beside"]
"""What a generator is for; each has its own, so that no stage changes the numbers of another."""

_CONFIG, _INFO, _LOCK, _CODE = "config.toml", "run.json", ".lock", "code"

_FORMAT = 2
"""Of the folder, as `run.json` says it."""


class RunFolder:
    """A folder that holds a run.

        config.toml                  the configuration as it ran
        run.json                     versions, machine, command
        history.jsonl                one training record a line
        code/                        copies of the Python files that the configuration names
        checkpoints/last, best       training, and the weights that sample
        checkpoints/model, beside    the chains as they stand
        samples.zarr                 groups model, proposals, beside
        results.json, report.html    what was made of it

    "model" is the density that was trained, "beside" the established sampler beside it. `open`, `create` and
    `create_or_resume` make the object. Of several processes that train together only the first writes to the
    folder; all of them call the latter two.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path, self.config = path, config

    @classmethod
    def open(cls: type[Folder], path: Path | str) -> Folder:
        """An existing run.

        Raises:
            RunFolderError: when there is none.
            ConfigError: when its configuration is not legal.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunFolderError(f"expected the folder of a run at {path}, found no such folder")
        return cls._opened(path, _table(path))

    @classmethod
    def _opened(
        cls: type[Folder], path: Path, table: dict[str, Any], given: dict[str, Given] | None = None
    ) -> Folder:
        _check_format(path)
        _check_code(path)
        return cls(path, parse_config(table, path / _CONFIG, given))

    @classmethod
    def create(cls: type[Folder], path: Path | str, config: RunConfig) -> Folder:
        """A new run in a new or empty folder.

        Raises:
            RunFolderError: when the folder holds something.
            ConfigError: when the processes that train together cannot share out the batch or the devices.
        """
        World.here().from_first(lambda: cls._create(Path(path), config))
        return cls(Path(path), config)

    @classmethod
    def _create(cls, path: Path, config: RunConfig) -> None:
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"expected a folder at {path}, found a file")
        # hidden files, run.json and code alone are what is left of a creation that was killed
        found = [file.name for file in path.iterdir()] if path.exists() else []
        if others := [name for name in found if name not in (_INFO, _CODE) and not name.startswith(".")]:
            what = "already holds a run" if _CONFIG in others else f"is no run, but not empty ({others[0]})"
            raise RunFolderError(f"{path} {what}: choose another folder")
        folder = cls(path, config)
        folder.check_processes()
        try_out(folder.action)
        code = {str(file): _digest(file) for file in sorted(set(sources(config.table())))}
        for name, copy in _copies(code).items():
            write_text(path / _CODE / copy, Path(name).read_text(encoding="utf-8"))
        info = {"format": _FORMAT, "command": _command(), **folder._circumstances()}
        write_text(path / _INFO, json.dumps(info | ({"code": code} if code else {}), indent=2))
        write_text(path / _CONFIG, to_toml(config))

    @classmethod
    def create_or_resume(cls: type[Folder], path: Path | str, config: RunConfig) -> Folder:
        """The run at `path` if it has this configuration, or a new one.

        Raises:
            RunFolderError: when the folder holds something else, or a run that is configured otherwise; the
                message names the keys.
            ConfigError: as `create`.
        """
        World.here().from_first(lambda: cls._create_or_resume(Path(path), config))
        return cls(Path(path), config)

    @classmethod
    def _create_or_resume(cls, path: Path, config: RunConfig) -> None:
        if not (path / _CONFIG).exists():
            cls._create(path, config)
            return
        given = {part.place: part for part in (config.action, config.model) if isinstance(part, Given)}
        table = _table(path)
        folder = cls._opened(path, table, given)
        # what was made in Python is known by its text alone, of which the opened run has that of today
        there = {place: table.get(place, {}).get("object") for place in given}
        changed = [
            f"{place}.object: {there[place]!r} and {part.text!r}"
            for place, part in given.items()
            if there[place] != part.text
        ]
        if changed := [*changed, *differences(folder.config, config)]:
            raise RunFolderError(
                f"{path} holds a run with another configuration (there and now):\n  "
                + "\n  ".join(changed)
                + "\n"
                + (
                    "go on with it with the objects and settings that it has"
                    if given
                    else f"go on with it by `latflow run {path}`"
                )
                + ", or choose another folder"
            )

    @property
    def info(self) -> dict[str, Any]:
        """What `run.json` says: versions, seed, command, device, time of creation."""
        return _info(self.path)

    @property
    def action(self) -> Action:
        """The theory."""
        return built_action(self.config.action)

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self.config.compute.torch_device()

    @property
    def history_file(self) -> Path:
        """The training records."""
        return self.path / "history.jsonl"

    def checkpoint(self, name: str) -> Path:
        """The file of a checkpoint: last, best, model, beside."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def generator(self, purpose: Purpose) -> Generator:
        """A generator whose seed follows from that of the run and from its purpose."""
        # weights are drawn on the CPU, so that every device starts from the same
        device = "cpu" if purpose == "initialisation" else self.device
        return Generator(device).manual_seed(derived_seed(self.config.seed, purpose))

    def new_model(self) -> Any:
        """The density before training.

        Raises:
            ConfigError: when it has nothing to train.
        """
        model = built_model(self.config.model, self.action, generator=self.generator("initialisation"))
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        return model.to(device=self.device, dtype=self.config.compute.torch_dtype)

    def model(self, which: Literal["best", "last"] = "best") -> Any:
        """The trained density: that of the lowest F_q, or the last.

        Raises:
            CheckpointError: when there is no such checkpoint yet, or it is damaged or of another model.
        """
        path = self.checkpoint(which)
        if not path.exists():
            raise CheckpointError(
                f"{self.path} holds no trained weights yet: `latflow train {self.path}` makes one"
            )
        model = self.new_model()
        load_weights(model, load_checkpoint(path, "weights")["weights"], path)
        return model.to(device=self.device, dtype=self.config.compute.torch_dtype).eval()

    def check_processes(self) -> None:
        """The processes that train together must be able to share out the batch and the devices.

        Raises:
            ConfigError: when they cannot.
        """
        world = World.here()
        try:
            world.share(self.config.training.batch)
            world.require_device(self.device)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def require_device(self, device: str, path: Path) -> None:
        """Random numbers go on only on the kind of device on which they began.

        Raises:
            CheckpointError: when the checkpoint at `path` was written on another kind.
        """
        if device != self.device.type:
            raise CheckpointError(
                f"{path} was written on {device}, and this process computes on {self.device.type}: go on "
                f"there, or remove {path.name}, and this stage is computed anew"
            )

    @contextlib.contextmanager
    def stage(self, world: World = ALONE) -> Iterator[StopRequest]:
        """Hold the folder for one stage of work: threads as configured, signals between steps alone.

        Args:
            world: the processes that do the work together; the first of them holds the folder.

        Raises:
            RunFolderError: when another process holds it.
        """
        with contextlib.ExitStack() as held, deferred_signals(world) as stop:
            world.from_first(lambda: held.enter_context(self._locked()))
            _check_code(self.path)
            if world.rank == 0:
                self._note_circumstances()
            threads = torch.get_num_threads()
            torch.set_num_threads(self.config.compute.threads or threads)
            try:
                yield stop
            finally:
                torch.set_num_threads(threads)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path / _LOCK).open("ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"{self.path} is in use by another process: wait until it has ended"
                ) from None
            yield  # the lock goes with the file handle, also when the process is killed

    def _circumstances(self) -> dict[str, Any]:
        """Everything outside the configuration on which the numbers may depend."""
        packages = ("torch", "numpy", "xarray", "zarr", "pyerrors")
        device = self.device
        return {
            "latflow": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
            "seed": self.config.seed,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "platform": platform.platform(),
            "host": platform.node(),
            "processors": os.cpu_count(),
            "threads": self.config.compute.threads or torch.get_num_threads(),
            "processes": launched().size,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _note_circumstances(self) -> None:
        """Write down where a run goes on elsewhere or with other versions: its numbers may then differ."""
        now, info = self._circumstances(), self.info
        resumed = info.get("resumed", [])
        before = [info, *resumed][-1]
        # an earlier version may not have noted all of it
        if any(now[key] != before.get(key, now[key]) for key in now if key != "created"):
            changed = {**info, "resumed": [*resumed, {"command": _command(), **now}]}
            write_text(self.path / _INFO, json.dumps(changed, indent=2))


def _check_format(path: Path) -> None:
    """A folder of another format is refused.

    Raises:
        RunFolderError: naming both.
    """
    try:
        found = json.loads((path / _INFO).read_text(encoding="utf-8")).get("format")
    except (FileNotFoundError, json.JSONDecodeError):
        return  # told where it is needed
    if found != _FORMAT:
        raise RunFolderError(
            f"{path} was written by another version of latflow, whose runs this one cannot go on with "
            f"(expected format {_FORMAT}, found {found}): choose another folder"
        )


def _info(path: Path) -> dict[str, Any]:
    """What `run.json` in a folder says.

    Raises:
        RunFolderError: when it is missing or no JSON.
    """
    file = path / _INFO
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise RunFolderError(f"{file} is missing or damaged: {error}") from error


def _copies(code: dict[str, str]) -> dict[str, str]:
    """What the copy of each file is called: as the file, and with its digest where two have the same name."""
    names = [Path(name).name for name in code]
    return {
        name: Path(name).name if names.count(Path(name).name) == 1 else f"{digest[:8]}_{Path(name).name}"
        for name, digest in code.items()
    }


def _check_code(path: Path) -> None:
    """The Python files of the configuration are those with which the run began.

    Raises:
        RunFolderError: naming one that is not.
    """
    if not (path / _INFO).exists():
        return  # told where it is needed
    code = _info(path).get("code", {})
    for name, digest in code.items():
        file = Path(name)
        if not file.is_file() or _digest(file) != digest:
            what = "has changed since the run began" if file.is_file() else "is gone"
            raise RunFolderError(
                f"{file}, which {path} is made with, {what}: choose another folder, or put back what it was; "
                f"a copy is {path / _CODE / _copies(code)[name]}"
            )


def _table(path: Path) -> dict[str, Any]:
    """The configuration in a folder.

    Raises:
        RunFolderError: when it is missing or no TOML.
    """
    file = path / _CONFIG
    if not file.is_file():
        raise RunFolderError(f"{path} is no run: expected {_CONFIG} in it")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{file} is damaged: {error}") from error


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def plain(value: Any) -> Any:
    """The same tree of dicts and lists, with None for the numbers that JSON does not know: nan and inf."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_checkpoint(path: Path, *entries: str) -> dict[str, Any]:
    """A file of `checkpoints/` that holds `entries`.

    Raises:
        CheckpointError: when it is damaged or holds something else, saying how to go on without it.
    """
    names = path.name if path.stem != "best" else "best.safetensors and last.safetensors"
    remedy = f"remove {names} there, and this stage is computed anew"
    try:
        tree = load_tree(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}: {remedy}") from error
    if missing := [entry for entry in entries if entry not in tree]:
        raise CheckpointError(f"{path} holds no {missing[0]!r}, but {', '.join(tree)}: {remedy}")
    return tree


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
