"""The stages of a run as the command line shows them, with progress. The stages themselves load PyTorch."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latflow.cli.progress import progress
from latflow.config import RunConfig, load_config, load_tables, parse_config, preset_names, scan_of
from latflow.errors import ConfigError

if TYPE_CHECKING:
    from latflow.runs import BlockReport, Run
    from latflow.scans import ScanFolder
    from latflow.training import Record
    from latflow.validation import Validation
    from latflow.validation.theta import ThetaTable


@dataclass(frozen=True)
class Opening:
    """A run that is to be opened or made, once its configuration is known to be legal."""

    path: Path
    config: RunConfig

    def run(self) -> "Run":
        """The run."""
        from latflow.runs import Run

        return Run.create_or_resume(self.path, self.config)


def opening(source: str, overrides: Sequence[str], out: Path | None) -> Opening:
    """The run in a folder, or that of a preset or a file.

    Raises:
        ConfigError: for a configuration that is not legal, or that of a scan.
        RunFolderError: for a folder that is no run.
    """
    found = run_or_scan(source, overrides, out)
    if not isinstance(found, Opening):
        raise ConfigError(
            f"{source}: expected the configuration of one run, got a scan of {', '.join(found.scan.keys)}, "
            "which `latflow run` carries out"
        )
    return found


def run_or_scan(source: str, overrides: Sequence[str], out: Path | None) -> "Opening | ScanFolder":
    """The run in a folder, or that of a preset or a file; or the scan, where lists of values make it one.

    Raises:
        ConfigError: for a configuration that is not legal.
        RunFolderError: for a folder that is no run.
    """
    there = None
    if _is_folder(source):
        from latflow.scans import SCAN, is_scan

        there = Path(source)
        if not is_scan(there):
            from latflow.runs import Run

            opened = Run.open(source)
            if not overrides:
                return Opening(out or there, opened.config)
        tables = load_tables(there / (SCAN if is_scan(there) else "config.toml"), overrides)
    else:
        tables = load_tables(source, overrides)
    if (scan := scan_of(tables, source)) is not None:
        from latflow.scans import ScanFolder, is_scan

        mine = there if there is not None and is_scan(there) else None
        return ScanFolder(out or mine or Path("scans") / scan.name, scan)
    config = parse_config(tables, source)
    return Opening(out or there or _default_folder(config.name), config)


def open_run(source: str) -> "Run":
    """The existing run in a folder, or in the folder where a preset or a file has its run."""
    from latflow.runs import Run

    return Run.open(source if _is_folder(source) else _default_folder(load_config(source).name))


def advanced(
    found: Opening, *, to_train: bool = False, to_sample: bool = False, quiet: bool = False
) -> "Run":
    """A run, trained to the end where it has a model, and sampled if so wished.

    Of several processes that torchrun started the first alone comes back with it. The others have no part in
    what follows, and end here: a stage that they waited for might last longer than they may wait.

    Args:
        found: the run.
        to_train: whether nothing but a training is wished, so that there must be one.
        to_sample: whether its chains are to grow to their lengths.
        quiet: whether no progress is shown.
    """
    if to_train and found.config.model is None:
        raise ConfigError("expected a [model] to train, got none: `latflow run` samples without")
    from latflow.training import joined

    with joined() as world:
        run, silent = found.run(), quiet or world.rank > 0
        train(run, silent)
        if to_sample:
            sample(run, silent)
    if world.rank:
        raise typer.Exit
    return run


def train(run: "Run", quiet: bool = False) -> None:
    """Train to the end, where there is a model."""
    if run.config.training is None:
        return
    with progress("train", run.config.training.steps, quiet) as advance:

        def show(record: "Record") -> None:
            skipped = "  skipped" if record.skipped else ""
            advance(record.step, f"ESS {record.ess:.3f}  F_q {record.f_q:.4f}{skipped}")

        run.train(on_record=show)


def sample(run: "Run", quiet: bool = False) -> None:
    """Grow the chain of the model and the one beside it to their lengths."""
    if run.config.sampling is not None:
        _sample(run, "model", "sample", run.sample, quiet)
    if run.config.beside is not None:
        titles = [sampler.title for sampler in run.samplers("beside").values()]
        _sample(run, "beside", " + ".join(titles), run.sample_beside, quiet)


def _sample(run: "Run", name: Any, what: str, stage: Callable[..., None], quiet: bool) -> None:
    plan = run.settings(name)
    assert plan is not None
    with progress(what, plan.steps, quiet) as advance:

        def show(report: "BlockReport") -> None:
            advance(report.step, _note(report))

        stage(on_block=show)


def report(run: "Run", validation: "Validation") -> Path:
    """Write the page of a run."""
    from latflow.report import write_report

    return write_report(run, validation)


def at_angles(run: "Run", number: int) -> "tuple[str, ThetaTable, Path]":
    """The theory of a run at a number of θ up to π, its title, and the page that holds all of it."""
    from math import pi

    from latflow.report.circumstances import theory
    from latflow.storage import write_text
    from latflow.validation.theta import theta_table

    run.written()
    table = theta_table(run, [pi * k / number for k in range(1, number + 1)])
    page = run.path / "theta.md"
    write_text(run.path / "theta.json", json.dumps(table.as_dict(), indent=1, ensure_ascii=False) + "\n")
    write_text(page, table.markdown())
    return theory(run.action)[0], table, page


def show(run: "Run", validation: "Validation", quiet: bool = False) -> None:
    """The verdict as a table on stdout, or its last line."""
    from latflow.cli.verdict import print_verdict
    from latflow.report.circumstances import theory

    print_verdict(run.config.description or theory(run.action)[0], validation, quiet)


def _note(report: "BlockReport") -> str:
    if report.step == 0:
        return "thermalising"
    ess = "" if report.ess is None else f"  ESS {report.ess:.3f}"
    return f"acceptance {report.acceptance:.3f}{ess}"


def _is_folder(source: str) -> bool:
    return source not in preset_names() and Path(source).is_dir()


def _default_folder(name: str) -> Path:
    return Path("runs") / name
