"""A run: what people and the later stages hold in their hands."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from xarray import Dataset

from latflow.config import ChainPlan, Given, parse_config
from latflow.errors import RunFolderError
from latflow.runs import growth, sampling, training
from latflow.runs.chains import Written
from latflow.runs.folder import RunFolder
from latflow.runs.place import identity
from latflow.runs.provenance import plain
from latflow.samplers import Sampler
from latflow.storage import with_digest, write_text
from latflow.theories import Action

Group = growth.Group

_GROUPS: tuple[Group, ...] = ("model", "proposals", "beside")


class Run(RunFolder):
    """A run in its folder, and its stages.

    Each stage goes on where it stopped, with the same numbers as if it had not. Several processes train and
    sample together where they are joined, see `latflow.training.joined`: each stage is called by all of them.

    Example:
        >>> import latflow as lf, tempfile
        >>> config = lf.load_config("phi4-quick", ["training.steps=2", "sampling.steps=20"])
        >>> run = lf.Run.create(Path(tempfile.mkdtemp()) / "run", config)
        >>> run.train()
        >>> run.sample()
        >>> run.series("model")["phi_squared"].shape
        (20, 16)
    """

    @classmethod
    def of(
        cls,
        action: Action,
        density: nn.Module | None,
        path: Path | str,
        *,
        training: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
        beside: Mapping[str, Any] | None = None,
        compute: Mapping[str, Any] | None = None,
        reference: Mapping[str, str] | None = None,
        seed: int = 1,
        name: str | None = None,
        description: str = "",
    ) -> "Run":
        """A run of a theory and a model that were made in Python; that run again where the folder holds it.

        Everything else is as in a configuration, with the same keys. The run is opened again by the same call
        alone, since no file says how to make its objects.

        Args:
            action: the theory.
            density: the model with its initial weights, of which the run trains a copy; None for the
                established sampler alone.
            path: of the folder.
            training: the keys of [training].
            sampling: the keys of [sampling].
            beside: the keys of [beside].
            compute: the keys of [compute].
            reference: known numbers.
            seed: from which every generator of the run is derived.
            name: of the run; that of the folder if None.
            description: one line, for people.

        Raises:
            ConfigError: for keys or values that are not legal.
            RunFolderError: when the folder holds something else, or a run of other objects or settings.

        Example:
            >>> import latflow as lf, tempfile
            >>> action = lf.actions.Phi4((4, 4), m2=-4.0, lam=8.0)
            >>> flow = lf.flows.affine_flow((4, 4), layers=2, hidden=(4,))
            >>> short = {"steps": 20, "chains": 4, "thermalisation": 5}
            >>> folder = Path(tempfile.mkdtemp()) / "mine"
            >>> options = {"training": {"steps": 5, "batch": 16}, "sampling": short, "beside": short}
            >>> run = lf.Run.of(action, flow, folder, **options)
            >>> run.train()
            >>> run.sample()
            >>> len(run.series("model")["action"])
            20
        """
        given = {"action": Given("action", lambda: action, described(action))}
        if density is not None:
            given["model"] = Given("model", partial(copy.deepcopy, density), described(density))
        tables = {"training": training, "sampling": sampling, "beside": beside, "compute": compute}
        table = {
            "name": name or Path(path).resolve().name,
            "description": description,
            "seed": seed,
            **{place: part.table() for place, part in given.items()},
            **{key: dict(value) for key, value in tables.items() if value is not None},
            "reference": dict(reference or {}),
        }
        return cls.create_or_resume(path, parse_config(table, "Run.of", given))

    def train(self, on_record: training.OnRecord | None = None) -> None:
        """Train to the end; see `latflow.runs.training.train`."""
        training.train(self, on_record)

    def sample(self, on_block: growth.OnBlock | None = None) -> None:
        """Grow the chain of the model to its length; see `latflow.runs.sampling.sample`."""
        sampling.sample(self, "model", on_block)

    def sample_beside(self, on_block: growth.OnBlock | None = None) -> None:
        """Grow the chain beside the model to its length, where the run has one; see `sample`."""
        sampling.sample(self, "beside", on_block)

    def settings(self, name: growth.ChainName) -> ChainPlan | None:
        """How long a chain is, and what moves it; None where it is switched off."""
        return self.config.chain(name)

    def samplers(self, name: growth.ChainName) -> dict[str, Sampler[Any, Any]]:
        """The kernels of a chain by name, in turn, not tuned: for their words. {} where it is off."""
        plan = self.config.chain(name)
        if plan is None:
            return {}
        density = None
        if name == "model":
            density = self.model("best") if self.checkpoint("best").exists() else self.new_model()
        return plan.build(self.action, density)

    @property
    def trained_steps(self) -> int:
        """The steps that the last checkpoint holds."""
        return training.trained_steps(self)

    def history(self) -> list[dict[str, Any]]:
        """The training records, one for each step: the fields of `training.Record`."""
        return training.read_history(self)

    def series(self, group: Group) -> Mapping[str, np.ndarray]:
        """The numbers of a chain, each (step, chain, …), by name; none where nothing is written yet.

        Those of a long chain are read when they are asked for, and the last ones are kept.

        Raises:
            RunFolderError: when something is missing or damaged.
        """
        return growth.chain_store(self).series(group, growth.written(self, group))

    def dataset(self, group: Group) -> Dataset:
        """The same as an xarray data set, which reads from the disk what is used."""
        return growth.chain_store(self).dataset(group, growth.written(self, group))

    def sampling_info(self, name: growth.ChainName) -> dict[str, Any]:
        """The `steps` of a chain, the `seconds` and `acceptance` of them, and what its kernels `found`.

        For samplers of single spins or clusters the `acceptance` is the share of the spins that a step
        changes. The seconds include tuning and thermalisation. `found` has by the name of each kernel what it
        tuned, for HMC `step_size` and `n_steps`, and `inner_steps` of one on two time scales.
        """
        info = growth.chain_info(self, name)
        if not info["steps"]:
            return info
        return info | {"acceptance": float(self.dataset(name)["accepted"].mean())}

    def written(self) -> dict[Group, int]:
        """The groups of chains and how many steps are written of each.

        Raises:
            RunFolderError: when there are none yet.
        """
        return {group: there.steps for group, there in self._written().items()}

    def export(self, target: Path | str, groups: Sequence[Group] | None = None) -> None:
        """Write chains to one file for other tools, in groups as in `samples.zarr`.

        `latflow.export` has other formats.

        Args:
            target: a path that ends in .nc or .h5; the format is NetCDF-4, which is HDF5, in either case.
            groups: those that are written; all that are there if None.

        Raises:
            ValueError: for another ending.
            RunFolderError: when there is no chain yet.
        """
        target = Path(target)
        if target.suffix not in (".nc", ".h5", ".hdf5"):
            raise ValueError(f"expected a file name that ends in .nc, .h5 or .hdf5, got {target.name!r}")
        written = self._written()
        taken = {group: there for group, there in written.items() if groups is None or group in groups}
        growth.chain_store(self).export(target, taken)

    def save_results(self, results: dict[str, Any]) -> None:
        """Keep the verdict of a validation in `results.json`; null stands for what is not finite."""
        kept = with_digest(plain(results) | {"run": identity(self.info)})
        write_text(self.path / "results.json", json.dumps(kept, indent=2, allow_nan=False))

    def _written(self) -> dict[Group, Written]:
        found: dict[Group, Written] = {
            group: there for group in _GROUPS if (there := growth.written(self, group)).steps
        }
        if not found:
            raise RunFolderError(f"{self.path} holds no chain yet: `latflow sample {self.path}` makes one")
        return found


def described(thing: Any) -> str:
    """What tells an object that was made in Python from others: its class, and a digest of what it holds."""
    kind = type(thing)
    shown = repr(thing) if dataclasses.is_dataclass(thing) else f"{kind.__module__}.{kind.__qualname__}"
    digest = hashlib.sha256()
    for word in _words(thing, set()):
        digest.update(word)
    return f"{shown}, {digest.hexdigest()[:12]}"


def _words(thing: Any, seen: set[int]) -> Iterator[bytes]:
    """What an object holds, at any depth, as bytes: numbers and text, arrays, the fields of other objects."""
    if isinstance(thing, Tensor):
        plain = thing.detach().cpu()
        thing = plain.double().numpy() if plain.is_floating_point() else plain.numpy()
    if isinstance(thing, np.ndarray):
        yield f"{thing.dtype}{thing.shape}".encode()
        yield thing.tobytes()
    elif isinstance(thing, str | bytes | int | float | complex | bool | type(None)):
        yield repr(thing).encode()
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield repr(key).encode()
            yield from _words(value, seen)
    elif isinstance(thing, list | tuple):
        yield f"{len(thing)}".encode()
        for value in thing:
            yield from _words(value, seen)
    else:
        yield f"{type(thing).__module__}.{type(thing).__qualname__}".encode()
        if id(thing) not in seen:
            seen.add(id(thing))  # what holds itself ends here
            yield from _words(_held(thing), seen)


def _held(thing: Any) -> dict[str, Any]:
    """The fields of an object, without what it has only computed from them, and without a module's mode."""
    if dataclasses.is_dataclass(thing):
        return {one.name: getattr(thing, one.name) for one in dataclasses.fields(thing) if one.compare}
    computed = {
        name
        for kind in type(thing).__mro__
        for name, v in vars(kind).items()
        if isinstance(v, cached_property)
    }
    return {
        name: v for name, v in getattr(thing, "__dict__", {}).items() if name not in computed | {"training"}
    }
