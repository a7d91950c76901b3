"""What the experiments share: a folder that keeps finished parts, seeds, and how all of it is written."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from matplotlib.figure import Figure
from torch import Generator

from latflow import __version__
from latflow.errors import CheckpointError, RunFolderError
from latflow.figures import save
from latflow.seeds import generator_for
from latflow.storage import load_tree, save_tree, write_text
from latflow_papers.results import RESULTS, Cell, Results, Table, number

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Findings:
    """What an experiment has found.

    Attributes:
        text: what was done and what came out, in a few sentences; $name in it stands for one of the numbers.
        tables: numbers.
        figures: by the name of their files.
        numbers: of the text.
    """

    text: str
    tables: Sequence[Table] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    numbers: Mapping[str, Cell] = field(default_factory=dict)


def break_even(training: float, without: float, with_flow: float) -> Cell:
    """After how many independent configurations a flow has cost less, its training included, or "never".

    Args:
        training: seconds.
        without: milliseconds of a configuration without the flow.
        with_flow: milliseconds of one with it.
    """
    saved = (without - with_flow) / 1e3
    return number(training / saved, ".2g") if saved > 0 else "never"


class Bench:
    """Where an experiment works: a folder, a seed, and a way to say how far it is.

    Args:
        folder: of the results; made where it is missing.
        settings: of the experiment, a dataclass of plain values; parts of other settings are refused.
        seed: from which every generator is derived.
        say: called with a line of text for people.

    Attributes:
        settings: as plain values.
        made: when the folder was begun, on what machine, with which versions.

    Raises:
        RunFolderError: when the folder holds parts that other settings or another seed have made.
        CheckpointError: when what it says of its settings is damaged.
    """

    def __init__(
        self, folder: Path, settings: Any, seed: int = 1, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.folder, self.seed, self.say = folder, seed, say
        self.settings = json.loads(json.dumps(asdict(settings)))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        if not path.exists():
            begun = {"seed": seed, "settings": self.settings, "made": _circumstances()}
            write_text(path, json.dumps(begun, indent=1, ensure_ascii=False) + "\n")
        begun = _read(path)
        if (begun.get("seed"), begun.get("settings")) != (seed, self.settings):
            raise RunFolderError(
                f"{folder} holds results of other settings or of another seed (see {path.name}): "
                "expected a new folder, or the settings that it was made with"
            )
        self.made: dict[str, Any] = begun.get("made", {})

    def generator(self, purpose: str) -> Generator:
        """A generator whose seed follows from that of the bench and from its purpose."""
        return generator_for(self.seed, purpose)

    def part(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """One part, computed once and kept: an experiment goes on where it stopped.

        Args:
            name: of its file.
            compute: returns a tree of tensors and plain values, as `latflow.storage.save_tree` takes it.

        Returns:
            The tree as it was stored, with the "seconds" that it took.

        Raises:
            CheckpointError: when the file is damaged.
        """
        path = self.folder / "parts" / f"{name}.safetensors"
        if not path.exists():
            start = time.perf_counter()
            found = compute()
            save_tree(path, {"seconds": time.perf_counter() - start} | found)
        try:
            kept = load_tree(path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}: remove it, and this part is computed anew") from error
        self.say(f"{name}: {kept['seconds']:.0f} s")
        return kept


@dataclass(frozen=True)
class Experiment(Generic[Settings]):
    """An experiment of a paper.

    Attributes:
        name: by which a package announces it, as the entry point of the same name.
        title: what it shows.
        source: the paper, and where in it.
        run: does it.
        settings: those of the paper, or what takes minutes on two cores where the text says so.
        quick: settings of seconds, which show that it runs and nothing else.
    """

    name: str
    title: str
    source: str
    run: Callable[[Bench, Settings], Findings]
    settings: Settings
    quick: Settings

    def perform(
        self, folder: Path, *, quick: bool = False, seed: int = 1, say: Callable[[str], None] = lambda _: None
    ) -> str:
        """Do it, write its results, figures and page, and return what it has found as text.

        Args:
            folder: for everything that it makes; what it finds there of an earlier attempt is not done again.
            quick: whether with the settings of seconds.
            seed: of all random numbers.
            say: called with a line of text whenever something is done.

        Raises:
            RunFolderError: when the folder belongs to other settings.
            CheckpointError: when a file in it is damaged.
        """
        settings = self.quick if quick else self.settings
        bench = Bench(folder, settings, seed, say)
        findings = self.run(bench, settings)
        for name, figure in findings.figures.items():
            for suffix in (".png", ".pdf"):
                save(figure, folder / f"{name}{suffix}")
        results = Results(
            experiment=self.name,
            title=self.title,
            source=self.source,
            settings=bench.settings,
            seed=seed,
            quick=quick,
            made=bench.made,
            text=findings.text,
            numbers=findings.numbers,
            tables=findings.tables,
            figures=list(findings.figures),
        )
        results.save(folder / RESULTS)
        page = folder / "README.md"
        write_text(page, results.page())
        return "\n\n".join(["", results.prose, *map(str, findings.tables), str(page)])


def _circumstances() -> dict[str, Any]:
    """What the numbers may depend on beside settings and seed."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "latflow": __version__,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): remove the folder, and do the experiment again"
        ) from error


def _processor() -> str:
    """The name of the processor, as Linux tells it; of its kind elsewhere."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
