"""What the experiments share: a folder that keeps finished parts, seeds, and the page of results."""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from matplotlib.figure import Figure
from torch import Generator

from latflow import __version__
from latflow.errors import RunFolderError
from latflow.report.style import save
from latflow.storage import write_text

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Table:
    """Numbers side by side, as text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [list(self.head), ["---"] * len(self.head), *(list(row) for row in self.rows)]
        escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]  # of |M|, not of the table
        return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


@dataclass(frozen=True)
class Findings:
    """What an experiment has found.

    Attributes:
        text: what was done and what came out, in a few sentences.
        tables: numbers.
        figures: by the name of their files.
    """

    text: str
    tables: Sequence[Table] = ()
    figures: dict[str, Figure] = field(default_factory=dict)


def break_even(training: float, without: float, with_flow: float) -> str:
    """After how many independent configurations a flow has cost less, its training included, or "never".

    Args:
        training: seconds.
        without: milliseconds of a configuration without the flow.
        with_flow: milliseconds of one with it.
    """
    saved = (without - with_flow) / 1e3
    return f"{training / saved:.2g}" if saved > 0 else "never"


class Bench:
    """Where an experiment works: a folder, a seed, and a way to say how far it is.

    Args:
        folder: of the results; made where it is missing.
        settings: of the experiment, a dataclass of plain values; parts of other settings are refused.
        seed: from which every generator is derived.
        say: called with a line of text for people.

    Raises:
        RunFolderError: when the folder holds parts that other settings or another seed have made.
    """

    def __init__(
        self, folder: Path, settings: Any, seed: int = 1, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.folder, self.seed, self.say = folder, seed, say
        self.folder.mkdir(parents=True, exist_ok=True)
        made_by = json.loads(json.dumps({"seed": seed, "settings": asdict(settings)}))
        path = folder / "settings.json"
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != made_by:
            raise RunFolderError(
                f"{folder} holds results of other settings or of another seed (see {path.name}): "
                "expected a new folder, or the settings that it was made with"
            )
        write_text(path, json.dumps(made_by, indent=1) + "\n")

    def generator(self, purpose: str) -> Generator:
        """A generator whose seed follows from that of the bench and from its purpose."""
        digest = hashlib.sha256(f"{self.seed} {purpose}".encode()).digest()
        return Generator().manual_seed(int.from_bytes(digest[:8], "big"))

    def part(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The plain numbers of one part, computed once and kept: an experiment goes on where it stopped."""
        path = self.folder / "parts" / f"{name}.json"
        if not path.exists():
            start = time.perf_counter()
            numbers = compute() | {"seconds": time.perf_counter() - start}
            path.parent.mkdir(exist_ok=True)
            write_text(path, json.dumps(numbers) + "\n")
        numbers = json.loads(path.read_text(encoding="utf-8"))
        self.say(f"{name}: {numbers['seconds']:.0f} s")
        return numbers

    def write(self, title: str, findings: Findings) -> Path:
        """Write text, tables and figures; returns the path of the page, which is markdown."""
        for name, figure in findings.figures.items():
            for suffix in (".png", ".pdf"):
                save(figure, self.folder / f"{name}{suffix}")
        threads = f"{torch.get_num_threads()} threads"
        machine = f"{platform.machine()}, {threads}, PyTorch {torch.__version__}, latflow {__version__}"
        pictures = [f"![{name}]({name}.png)" for name in findings.figures]
        sections = [f"# {title}", findings.text, *map(str, findings.tables), *pictures, f"Made on {machine}."]
        path = self.folder / "README.md"
        write_text(path, "\n\n".join(sections) + "\n")
        return path


@dataclass(frozen=True)
class Experiment(Generic[Settings]):
    """An experiment of a paper.

    Attributes:
        title: what it shows.
        source: the paper, and where in it.
        run: does it.
        settings: those of the paper, or what takes minutes on two cores where the text says so.
        quick: settings of seconds, which show that it runs and nothing else.
    """

    title: str
    source: str
    run: Callable[[Bench, Settings], Findings]
    settings: Settings
    quick: Settings
