"""The folder of a run: what lies where, and the things that its configuration describes."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Generator, nn

from latflow.config import Given, RunConfig, differing, parse_config, to_toml
from latflow.config.checking import built_action, built_model
from latflow.config.parts import Buildable
from latflow.densities.files import load_weights
from latflow.errors import CheckpointError, ConfigError, RunFolderError
from latflow.registry import sources
from latflow.runs.checkpoints import Checkpoints, remedy
from latflow.runs.circumstances import circumstances, command
from latflow.runs.ensembles import check_files
from latflow.runs.interrupts import StopRequest, deferred_signals
from latflow.runs.lock import locked
from latflow.runs.place import (
    CODE,
    CONFIG,
    FORMAT,
    INFO,
    check_code,
    check_format,
    check_place,
    copies,
    file_digest,
    info_in,
    table_in,
    write_info,
)
from latflow.runs.provenance import Differing, Stage, changed_settings, depends, extension, in_words, plain
from latflow.runs.start import keep_start, read_start, started
from latflow.runs.trial import try_out
from latflow.seeds import derived_seed
from latflow.storage import sweep, write_text
from latflow.theories import Action
from latflow.training.world import ALONE, World

Folder = TypeVar("Folder", bound="RunFolder")
Purpose = Literal["initialisation", "training", "model", "beside"]
"""What a generator is for; each has its own, so that no stage changes the numbers of another."""

_LOG = logging.getLogger(__name__)


class RunFolder(Checkpoints):
    """A folder that holds a run.

        config.toml                  the configuration as it ran
        run.json                     versions, machine, command
        history.jsonl                one training record a line
        code/                        copies of the Python files that the configuration names
        checkpoints/init             the weights of another run, where the training begins with them
        checkpoints/last, best       training, and the weights that sample
        checkpoints/model, beside    the chains as they stand
        checkpoints/*.before         each of these before it was written the last time, should it be damaged
        samples.zarr                 groups model, proposals, beside
        results.json, report.html    what was made of it

    "model" is the density that was trained, "beside" the established sampler beside it. `open`, `create` and
    `create_or_resume` make the object. Of several processes that train together only the first writes to the
    folder; all of them call the latter two.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        super().__init__(path)
        self.config: RunConfig = config

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
        return cls._opened(path, table_in(path))

    @classmethod
    def _opened(
        cls: type[Folder], path: Path, table: dict[str, Any], given: dict[str, Given] | None = None
    ) -> Folder:
        check_format(path)
        check_code(path)
        folder = cls(path, parse_config(table, path / CONFIG, given))
        folder._check_edited()
        return folder

    @classmethod
    def create(cls: type[Folder], path: Path | str, config: RunConfig) -> Folder:
        """A new run in a new or empty folder.

        Raises:
            RunFolderError: when the folder holds something.
            ConfigError: when the processes that train together cannot share out the batch or the devices.
        """
        World.here().from_first(lambda: cls._found(Path(path), config, resume=False))
        return cls(Path(path), config)

    @classmethod
    def _found(cls, path: Path, config: RunConfig, resume: bool) -> None:
        """Make the run in a folder, or find it there with the same configuration."""
        check_place(path, resume)
        start, files = None, {}
        if not (path / CONFIG).exists():
            # what is wrong with the theory is told before there is a folder
            folder = cls(path, config)
            folder.check_processes()
            try_out(folder.action)
            start = read_start(folder)
            files = check_files(folder)
        with locked(path):
            # what another process did meanwhile counts
            check_place(path, resume)
            if (path / CONFIG).exists():
                cls._reconfigure(path, config)
            else:
                cls._create(path, config, start, files)

    @classmethod
    def _create(
        cls, path: Path, config: RunConfig, start: dict[str, Any] | None, files: dict[str, str]
    ) -> None:
        folder = cls(path, config)
        code = {str(file): file_digest(file) for file in sorted(set(sources(config.table())))}
        for name, copy in copies(code).items():
            write_text(path / CODE / copy, Path(name).read_text(encoding="utf-8"))
        info = {"format": FORMAT, "command": command(), **circumstances(config)}
        info |= {"code": code} if code else {}
        info |= {"ensembles": files} if files else {}
        if start is not None:
            keep_start(folder, start)
            info["init_from"] = {key: start[key] for key in ("path", "digest", "lattice")}
        write_info(path, info | folder._configuration())
        write_text(path / CONFIG, to_toml(config))

    @classmethod
    def create_or_resume(cls: type[Folder], path: Path | str, config: RunConfig) -> Folder:
        """The run at `path` if it has this configuration, or a new one.

        Keys on which nothing that is there depends may differ, and `steps` may grow: the run has those of
        `config` from then on.

        Raises:
            RunFolderError: when the folder holds something else, or a run that is configured otherwise; the
                message names the keys.
            ConfigError: as `create`.
        """
        World.here().from_first(lambda: cls._found(Path(path), config, resume=True))
        return cls(Path(path), config)

    @classmethod
    def check_resumable(cls, path: Path, config: RunConfig) -> tuple[Differing, list[str]]:
        """The keys in which the run at `path` would take over another configuration, and what that means.

        Raises:
            RunFolderError: when it cannot, naming the keys.
        """
        given = {part.place: part for part in (config.action, config.model) if isinstance(part, Given)}
        table = table_in(path)
        folder = cls._opened(path, table, given)
        # what was made in Python is known by its text alone, of which the opened run has that of today
        there = {place: table.get(place, {}).get("object") for place in given}
        changed = [
            f"{place}.object: {there[place]!r} and {part.text!r}"
            for place, part in given.items()
            if there[place] != part.text
        ]
        new = differing(folder.config.table(), config.table())
        refused, news = extension(new, folder.done) if new else ({}, [])
        if changed := [*changed, *in_words(refused)]:
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
        return new, news

    @classmethod
    def _reconfigure(cls, path: Path, config: RunConfig) -> None:
        """Take over what may differ in another configuration of the run at `path`."""
        new, news = cls.check_resumable(path, config)
        if new:
            write_text(path / CONFIG, to_toml(config))
            write_info(path, info_in(path) | cls(path, config)._configuration())
        for line in news:
            _LOG.warning(line)

    @property
    def info(self) -> dict[str, Any]:
        """What `run.json` says: versions, seed, command, device, time of creation."""
        return info_in(self.path)

    @property
    def action(self) -> Action:
        """The theory."""
        return built_action(self.config.action)

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self.config.compute.torch_device()

    def generator(self, purpose: Purpose) -> Generator:
        """A generator whose seed follows from that of the run and from its purpose."""
        # weights are drawn on the CPU, so that every device starts from the same
        device = "cpu" if purpose == "initialisation" else self.device
        return Generator(device).manual_seed(derived_seed(self.config.seed, purpose))

    @property
    def _described_model(self) -> Buildable:
        if self.config.model is None:
            raise ConfigError(f"expected a run with a [model], got {self.path}, which has none")
        return self.config.model

    def new_model(self) -> Any:
        """The density before training.

        Raises:
            ConfigError: when there is none, or it has nothing to train.
        """
        model = built_model(self._described_model, self.action, generator=self.generator("initialisation"))
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        return model.to(device=self.device, dtype=self.config.compute.torch_dtype)

    def first_model(self) -> Any:
        """The density as its training begins: new, or with the weights of another run.

        Raises:
            ConfigError: as `new_model`.
            CheckpointError: when these are damaged or gone.
        """
        if self.config.training is None or self.config.training.init_from is None:
            return self.new_model()
        path = self.checkpoint("init")
        tree = World.here().from_first(lambda: self.stored("init", "weights", "lattice"))
        try:
            return started(self, tree, path)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def model(self, which: Literal["best", "last"] = "best") -> Any:
        """The trained density: that of the lowest F_q, or the last.

        Raises:
            ConfigError: when the run has no model.
            CheckpointError: when there is no such checkpoint yet, or it is damaged or of another model.
        """
        path = self.checkpoint(which)
        if self._described_model and not path.exists():
            self.require_best()
            raise CheckpointError(
                f"{self.path} holds no trained weights yet: `latflow train {self.path}` makes them"
            )
        model = self.new_model()
        load_weights(model, self.load(which, "weights")["weights"], path)
        return model.to(device=self.device, dtype=self.config.compute.torch_dtype).eval()

    def made_by(self, stage: Stage) -> dict[str, Any]:
        """The settings that decide the numbers of a stage, by their keys: what a checkpoint of it says."""
        return plain(depends(stage, self.config.table()))

    def load(self, name: str, *entries: str) -> dict[str, Any]:
        """The checkpoint of a name, which must hold `entries`.

        Raises:
            CheckpointError: when it is damaged, holds something else, or was made with other settings than
                those of this run; saying how to go on.
        """
        tree = self.stored(name, *entries, "made_by")
        stage: Stage = "training" if name in ("last", "best") else "model" if name == "model" else "beside"
        if changed := changed_settings(tree["made_by"], self.made_by(stage), self.config):
            raise CheckpointError(
                f"{self.checkpoint(name)} was made with other settings (there and now):\n  "
                + "\n  ".join(in_words(changed))
                + f"\nput them back in {self.path / CONFIG}, or {remedy(name)}"
            )
        return tree

    def check_processes(self) -> None:
        """The processes that work together must be able to share out the batch, the chains and the devices.

        Raises:
            ConfigError: when they cannot.
        """
        world, training = World.here(), self.config.training
        try:
            if training is not None:
                world.share(training.batch)
            for plan in (self.config.sampling, self.config.beside):
                if plan is not None:
                    world.share(plan.chains, "a number of chains")
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
            world.from_first(lambda: held.enter_context(locked(self.path)))
            check_code(self.path)
            if world.rank == 0:
                for folder in (self.path, self.checkpoint("last").parent):
                    sweep(folder)
                self._note_circumstances()
            threads = torch.get_num_threads()
            torch.set_num_threads(self.config.compute.threads or threads)
            try:
                yield stop
            finally:
                torch.set_num_threads(threads)

    def _note_circumstances(self) -> None:
        """Write down where a run goes on elsewhere or with other versions: its numbers may then differ."""
        now, info = circumstances(self.config), self.info | self._configuration()
        resumed = info.get("resumed", [])
        before = [info, *resumed][-1]
        if any(now[key] != before.get(key) for key in now if key != "created"):
            info["resumed"] = [*resumed, {"command": command(), **now}]
        if info != self.info:
            write_info(self.path, info)

    def _configuration(self) -> dict[str, Any]:
        """What `run.json` says of the configuration, so that an edited file is known."""
        return {"configuration": plain(self.config.table())}

    def _check_edited(self) -> None:
        """The configuration is that of the last stage, or was edited where a run may change.

        Raises:
            RunFolderError: naming the keys that may not.
        """
        if not (self.path / INFO).exists():
            return  # told where it is needed
        new = changed_settings(
            self.info.get("configuration", {}), self._configuration()["configuration"], self.config
        )
        if not new:
            return
        refused, news = extension(new, self.done)
        file = self.path / CONFIG
        if refused:
            raise RunFolderError(
                f"{file} was edited, and the old settings have made numbers there (then and now):\n  "
                + "\n  ".join(in_words(refused))
                + "\nput them back, or choose another folder"
            )
        for line in (f"{file} was edited: {', '.join(in_words(new))}", *news):
            _LOG.warning(line)
