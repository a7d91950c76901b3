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
from torch import Generator

from latflow import __version__
from latflow.actions import Action
from latflow.autoregressive import NamedDensity, build_density
from latflow.autoregressive.files import load_weights
from latflow.config import RunConfig, differences, parse_config, to_toml
from latflow.errors import CheckpointError, ConfigError, RunFolderError
from latflow.runs.interrupts import StopRequest, deferred_signals
from latflow.storage import load_tree, write_text
from latflow.training.world import ALONE, World, launched

Folder = TypeVar("Folder", bound="RunFolder")
Purpose = Literal["initialisation", "training", "flow", "hmc", "classical"]
"""What a generator is for; each has its own, so that no stage changes the numbers of another."""

_CONFIG, _INFO, _LOCK = "config.toml", "run.json", ".lock"


class RunFolder:
    """A folder that holds a run.

        config.toml                  the configuration as it ran
        run.json                     versions, machine, command
        history.jsonl                one training record a line
        checkpoints/last, best       training, and the weights that sample
        checkpoints/flow, hmc        the chains as they stand
        samples.zarr                 groups flow, proposals, hmc
        results.json, report.html    what was made of it

    "flow" is the density that was trained, for spins a network; beside it they have "classical", not "hmc".
    `open`, `create` and `create_or_resume` make the object. Of several processes that train together only the
    first writes to the folder; all of them call the latter two.
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
        file = path / _CONFIG
        if not file.is_file():
            raise RunFolderError(f"{path} is no run: expected {_CONFIG} in it")
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunFolderError(f"{file} is damaged: {error}") from error
        return cls(path, parse_config(table, file))

    @classmethod
    def create(cls: type[Folder], path: Path | str, config: RunConfig) -> Folder:
        """A new run in a new or empty folder.

        Raises:
            RunFolderError: when the folder holds something.
            ConfigError: when the processes that train together cannot share out the batch or the devices.
        """
        return World.here().from_first(lambda: cls._create(Path(path), config))

    @classmethod
    def _create(cls: type[Folder], path: Path, config: RunConfig) -> Folder:
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"expected a folder at {path}, found a file")
        # hidden files and run.json alone are what is left of a creation that was killed
        found = [file.name for file in path.iterdir()] if path.exists() else []
        if others := [name for name in found if name != _INFO and not name.startswith(".")]:
            what = "already holds a run" if _CONFIG in others else f"is no run, but not empty ({others[0]})"
            raise RunFolderError(f"{path} {what}: choose another folder")
        folder = cls(path, config)
        folder.check_processes()
        write_text(path / _INFO, json.dumps({"command": _command(), **folder._circumstances()}, indent=2))
        write_text(path / _CONFIG, to_toml(config))
        return folder

    @classmethod
    def create_or_resume(cls: type[Folder], path: Path | str, config: RunConfig) -> Folder:
        """The run at `path` if it has this configuration, or a new one.

        Raises:
            RunFolderError: when the folder holds something else, or a run that is configured otherwise; the
                message names the keys.
            ConfigError: as `create`.
        """
        return World.here().from_first(lambda: cls._create_or_resume(Path(path), config))

    @classmethod
    def _create_or_resume(cls: type[Folder], path: Path, config: RunConfig) -> Folder:
        if not (path / _CONFIG).exists():
            return cls._create(path, config)
        folder = cls.open(path)
        if changed := differences(folder.config, config):
            raise RunFolderError(
                f"{path} holds a run with another configuration (there and now):\n  "
                + "\n  ".join(changed)
                + f"\ngo on with it by `latflow run {path}`, or choose another folder"
            )
        return folder

    @property
    def info(self) -> dict[str, Any]:
        """What `run.json` says: versions, seed, command, device, time of creation."""
        file = self.path / _INFO
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError) as error:
            raise RunFolderError(f"{file} is missing or damaged: {error}") from error

    @property
    def action(self) -> Action:
        """The theory."""
        return self.config.action.build()

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self.config.compute.torch_device()

    @property
    def history_file(self) -> Path:
        """The training records."""
        return self.path / "history.jsonl"

    def checkpoint(self, name: str) -> Path:
        """The file of a checkpoint: last, best, flow, and hmc or classical."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def generator(self, purpose: Purpose) -> Generator:
        """A generator whose seed follows from that of the run and from its purpose."""
        digest = hashlib.sha256(f"{self.config.seed} {purpose}".encode()).digest()
        # weights are drawn on the CPU, so that every device starts from the same
        device = "cpu" if purpose == "initialisation" else self.device
        return Generator(device).manual_seed(int.from_bytes(digest[:8], "big"))

    def new_flow(self) -> NamedDensity:
        """The flow, or the network of spins, before training."""
        flow = build_density(self.config.flow_recipe(), generator=self.generator("initialisation"))
        return flow.to(device=self.device, dtype=self.config.compute.torch_dtype)

    def flow(self, which: Literal["best", "last"] = "best") -> NamedDensity:
        """The trained flow, or network of spins: that of the lowest F_q, or the last.

        Raises:
            CheckpointError: when there is no such checkpoint yet, or it is damaged or of another model.
        """
        path = self.checkpoint(which)
        if not path.exists():
            raise CheckpointError(
                f"{self.path} holds no trained weights yet: `latflow train {self.path}` makes one"
            )
        flow = self.new_flow()
        load_weights(flow, load_checkpoint(path, "weights")["weights"], path)
        return flow.to(device=self.device, dtype=self.config.compute.torch_dtype).eval()

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
