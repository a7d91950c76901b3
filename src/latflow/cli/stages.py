"""The stages of a run as the command line shows them: with progress, and a table at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from latflow.analysis import Measurement
from latflow.cli.progress import progress
from latflow.config import load_config, preset_names
from latflow.errors import RunFolderError
from latflow.runs import BlockReport, Run
from latflow.training import Record, joined

_COLUMNS = {
    "flow": "{mover}-MCMC",
    "nis": "NIS",
    "hmc": "{beside}",
    "classical": "{beside}",
    "quenched": "quenched",
    "exact": "exact",
}
_WIDTH = 120  # where there is no terminal to ask


def open_or_create(source: str, overrides: Sequence[str], out: Path | None) -> Run:
    """The run in a folder, or that of a preset or a file, which is made if need be."""
    if out is None and _is_folder(source):
        opened = Run.open(source)
        changed = load_config(opened.path / "config.toml", overrides) if overrides else opened.config
        return Run.create_or_resume(source, changed)
    config = load_config(source, overrides)
    return Run.create_or_resume(out or _default_folder(config.name), config)


def open_run(source: str) -> Run:
    """The existing run in a folder, or in the folder where a preset or a file has its run."""
    return Run.open(source if _is_folder(source) else _default_folder(load_config(source).name))


def trained(source: str, overrides: Sequence[str], out: Path | None) -> Run:
    """The run in a folder, or that of a preset or a file, trained to the end.

    Of several processes that torchrun started the first alone comes back with it. The others have no part in
    what follows, and end here: a stage that they waited for might last longer than they may wait.
    """
    with joined() as world:
        run = open_or_create(source, overrides, out)
        if world.rank == 0:
            train(run)
        else:
            run.train()
    if world.rank:
        raise typer.Exit
    return run


def train(run: Run) -> None:
    """Train to the end."""
    with progress("train", run.config.training.steps) as advance:

        def show(record: Record) -> None:
            skipped = "  skipped" if record.skipped else ""
            advance(record.step, f"ESS {record.ess:.3f}  F_q {record.f_q:.4f}{skipped}")

        run.train(on_record=show)


def sample(run: Run) -> None:
    """Grow the chains of the flow and of the sampler beside it to their lengths."""
    from latflow.validation import names_of

    config, spins = run.config, run.config.classical is not None
    beside = run.sample_classical if spins else run.sample_hmc
    for what, steps, stage, share in (
        ("sample", config.sampling.steps, run.sample, "acceptance"),
        (
            names_of(run.action, config).beside,
            config.beside.steps,
            beside,
            "changed" if spins else "acceptance",
        ),
    ):
        with progress(what, steps) as advance:

            def show(report: BlockReport, share: str = share) -> None:
                advance(report.step, _note(report, share))

            stage(on_block=show)


def validate(run: Run) -> dict[str, Any]:
    """Hold the numbers of a run against each other, and keep the verdict in `results.json`.

    Raises:
        RunFolderError: when there are no numbers yet, or too few.
    """
    from latflow.validation import validate as judge

    run.written()
    try:
        results = judge(run).as_dict()
    except ValueError as error:
        raise RunFolderError(f"{run.path} cannot be judged: {error}") from error
    run.save_results(results)
    return results


def report(run: Run, results: dict[str, Any]) -> Path:
    """Write the page of a run."""
    from latflow.report import write_report

    return write_report(run, results)


def print_results(run: Run, results: dict[str, Any]) -> None:
    """The verdict as a table on stdout, with the largest pull of each observable."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    title = run.config.description or run.config.name
    columns = [column for column in _COLUMNS if any(row[column] for row in results["rows"])]
    names = (_COLUMNS[column].format(**results["names"]) for column in columns)
    table = Table("observable", *names, "largest pull", title=title, box=SIMPLE_HEAD)
    for row in results["rows"]:
        values = (_number(row[column]) for column in columns)
        largest = _largest(row["pulls"], results["names"])
        table.add_row(row["label"], *values, largest, style=None if row["passed"] else "red")
    console.print(table)
    for check in results["checks"]:
        verdict = "passed" if check["passed"] else "FAILED"
        style = "green" if check["passed"] else "red"
        console.print(f"{verdict}  {check['name']}: {check['detail']}", style=style, markup=False)
    for note in results["notes"]:
        console.print(f"note: {note}", markup=False)
    for warning in results["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    console.print("validated" if results["passed"] else "validation FAILED", style="bold")


def _largest(pulls: dict[str, float], names: dict[str, str]) -> str:
    if not pulls:
        return ""
    between = max(pulls, key=lambda pair: abs(pulls[pair]))
    words = {"flow": names["mover"], "classical": names["beside"]}
    return f"{pulls[between]:+.1f}  {'-'.join(words.get(way, way) for way in between.split('-'))}"


def _number(measurement: dict[str, Any] | None) -> str:
    return "" if measurement is None else str(Measurement(measurement["value"], measurement["error"]))


def _note(report: BlockReport, share: str) -> str:
    if report.step == 0:
        return "thermalising"
    ess = "" if report.ess is None else f"  ESS {report.ess:.3f}"
    return f"{share} {report.acceptance:.3f}{ess}"


def _is_folder(source: str) -> bool:
    return source not in preset_names() and Path(source).is_dir()


def _default_folder(name: str) -> Path:
    return Path("runs") / name
