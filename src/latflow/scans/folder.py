"""The folder of a scan: one configuration with lists, and a folder for each of its runs."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from latflow.config import Point, RunConfig, Scan, parse_config, read_toml, scan_of
from latflow.errors import ConfigError, LatflowError, RunFolderError
from latflow.report import mark_in
from latflow.report.overview import REPORT, Overview, overview
from latflow.runs import Run
from latflow.runs.place import CONFIG, table_in
from latflow.storage import write_text

SCAN = "scan.toml"
"""The configuration with the lists, in the folder of a scan."""


@dataclass(frozen=True)
class ScannedRun:
    """A run of a scan, which may not be there yet.

    Attributes:
        point: its place in the scan.
        path: of its folder.
        config: its configuration.
    """

    point: Point
    path: Path
    config: RunConfig

    @property
    def name(self) -> str:
        """That of its folder: "beta=0.62,lattice=16x16"."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether all of its stages have their lengths, with a verdict on their numbers and its page."""
        seen = self.overview
        if seen.state in ("unfinished", "outdated", "damaged") or mark_in(self.path / REPORT) != seen.mark:
            return False
        run, planned = Run(self.path, self.config), {}
        if self.config.training is not None:
            planned["training"] = self.config.training.steps
        for chain in ("model", "beside"):
            if (plan := self.config.chain(chain)) is not None:
                planned[chain] = plan.steps
        try:
            done = run.done()
        except LatflowError:
            return False  # what is damaged is told where it is gone on with
        return done == planned

    @property
    def overview(self) -> Overview:
        """What it has found."""
        if self.path.exists():
            return overview(self.path)
        return Overview(self.path, "unfinished", "not begun", name=self.name)


class ScanFolder:
    """A scan in its folder.

        scan.toml                 the configuration with the lists
        beta=0.62,lattice=8x8     each run, a folder as any run has
        scan.json, .csv, .md      what all of them have found
        scan.html                 the same as a page, with links to the reports of the runs
        figures/                  as PNG and PDF

    Args:
        path: of the folder.
        scan: what it is.

    Attributes:
        runs: in their order.

    Raises:
        ConfigError: when the configuration of a run is not legal, naming the run.
    """

    def __init__(self, path: Path, scan: Scan) -> None:
        self.path: Path = path
        self.scan: Scan = scan
        self.runs: tuple[ScannedRun, ...] = tuple(
            ScannedRun(point, path / point.folder, self._config(point)) for point in scan.points
        )

    @classmethod
    def open(cls, path: Path) -> "ScanFolder":
        """The scan in a folder.

        Raises:
            RunFolderError: when there is none.
        """
        if not is_scan(path):
            raise RunFolderError(f"expected the folder of a scan at {path}, found no {SCAN} in it")
        return cls(path, _stored(path))

    def _config(self, point: Point) -> RunConfig:
        table = point.table
        if point.continues:
            training = {key: value for key, value in table["training"].items() if key != "init_from"}
            if (start := self._start(point)) is not None:
                training["init_from"] = start
            table = {**table, "training": training}
        try:
            return parse_config(table, point.folder)
        except ConfigError as error:
            raise ConfigError(f"in the run {error}") from error

    def _start(self, point: Point) -> str | None:
        """Where a run begins that is to go on from another: what is there has begun where it says."""
        own = self.path / point.folder
        if (own / CONFIG).exists():
            with contextlib.suppress(RunFolderError):  # told where the run is gone on with
                return table_in(own).get("training", {}).get("init_from")
        return None if point.previous is None else str((self.path / point.previous).resolve())

    def check(self) -> None:
        """The folder holds this scan so far, or nothing.

        Raises:
            RunFolderError: when it holds something else, a scan of other keys, or a run whose settings have
                changed; naming them.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"expected a folder at {self.path}, found a file")
        found = [file.name for file in self.path.iterdir()] if self.path.exists() else []
        if is_scan(self.path):
            there = _stored(self.path)
            if there.keys != self.scan.keys:  # of which folders have their names
                raise RunFolderError(
                    f"{self.path} holds a scan of {', '.join(there.keys)}, and this one is of "
                    f"{', '.join(self.scan.keys)}: choose another folder"
                )
        elif others := [name for name in found if not name.startswith(".")]:
            what = "a run" if CONFIG in others else f"no scan, but not empty ({others[0]})"
            raise RunFolderError(f"{self.path} holds {what}: choose another folder")
        for run in self.runs:
            try:
                Run.open(run.path)
            except LatflowError:
                continue  # not there yet, or damaged, which stops no other run
            Run.check_resumable(run.path, run.config)

    def write(self) -> None:
        """Keep the configuration."""
        write_text(self.path / SCAN, tomli_w.dumps(self.scan.table))

    @property
    def left_out(self) -> list[str]:
        """Folders of runs that are there and no longer in the lists."""
        there = {file.parent.name for file in self.path.glob(f"*/{CONFIG}")}
        return sorted(there - {run.name for run in self.runs})


def is_scan(path: Path) -> bool:
    """Whether a folder holds a scan."""
    return (path / SCAN).is_file()


def _stored(path: Path) -> Scan:
    try:
        scan = scan_of(read_toml(path / SCAN), path / SCAN)
    except ConfigError as error:
        raise RunFolderError(str(error)) from error
    if scan is None:
        raise RunFolderError(f"{path / SCAN} is damaged: expected lists of values, found none")
    return scan
