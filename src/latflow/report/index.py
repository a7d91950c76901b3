"""The page over the runs of a folder: what each has found, with links to their reports."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from latflow.errors import RunFolderError
from latflow.report.circumstances import duration
from latflow.report.linked import MARKS, Linked, link
from latflow.report.overview import REPORT, SCAN_PAGE, Overview, best_of, is_run, overview, run_folders
from latflow.report.page import environment
from latflow.report.tables import Cell, Table, printed
from latflow.storage import write_text
from latflow.version import __version__

INDEX = "index.html"
_MARK = '<meta name="generator" content="latflow index">'
"""In every page that may be written anew."""
_LONGEST_REASON = 200


def write_index(folder: Path) -> tuple[Path, list[Overview]]:
    """Write `index.html` into a folder with runs at any of a few levels below it.

    Returns:
        Its path, and what is in it.

    Raises:
        RunFolderError: when there is no such folder, no run in it, or a page there that is another's.
    """
    if not folder.is_dir():
        raise RunFolderError(f"expected a folder with runs at {folder}, found no folder")
    if is_run(folder):
        raise RunFolderError(f"expected a folder with runs at {folder}, found a run: its page is report.html")
    runs = [overview(path) for path in run_folders(folder)]
    if not runs:
        raise RunFolderError(f"expected a folder with runs at {folder}, found none in it")
    page = folder / INDEX
    if page.exists() and not (page.is_file() and _MARK in page.read_text(encoding="utf-8", errors="replace")):
        raise RunFolderError(f"{page} is there, and not written by `latflow index`: move it away")
    scans = sorted({run.path.parent for run in runs if (run.path.parent / SCAN_PAGE).is_file()})
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in MARKS if state in states)
    write_text(
        page,
        environment()
        .get_template("index.html.j2")
        .render(
            mark=_MARK,
            name=folder.resolve().name,
            counts=f"{len(runs)} run{'' if len(runs) == 1 else 's'}: {counts}",
            scans=[Linked(scan.name, targets=link("scan", scan / SCAN_PAGE, folder)) for scan in scans],
            table=_table(runs, folder),
            version=__version__,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        ),
    )
    return page, runs


def _table(runs: Sequence[Overview], folder: Path) -> Table:
    head = ["run", "theory", "verdict", "ESS", "acceptance", "main observables", "time", "begun"]
    caption = (
        "Numbers are those of the smallest error that may be trusted; the time is that of all stages by the "
        "clock."
    )
    return Table(caption, head, [_row(run, folder) for run in runs])


def _row(run: Overview, folder: Path) -> list[Cell]:
    of_scan = (run.path.parent / SCAN_PAGE).is_file()
    name = "" if of_scan or run.name == run.path.name else run.name
    where = os.path.relpath(run.path, folder)
    why = run.why if len(run.why) <= _LONGEST_REASON else f"{run.why[:_LONGEST_REASON]}…"
    links = link("report", run.path / REPORT, folder)
    acceptance = run.diagnostics.get("acceptance", run.diagnostics.get("beside_acceptance"))
    return [
        Linked(where, name, targets=links),
        Cell(run.theory),
        Cell(run.state, "" if run.state == "passed" else why, MARKS[run.state]),
        _number(run.diagnostics.get("ess")),
        _number(acceptance),
        Cell("; ".join(_main(run)) or "–"),
        Cell(duration(sum(run.seconds.values())) if run.seconds else "–"),
        Cell(run.created[:16].replace("T", " ") or "–"),
    ]


def _number(value: float | None) -> Cell:
    return Cell("–" if value is None else f"{value:.3f}")


def _main(run: Overview) -> Iterator[str]:
    for name in run.main:
        if (best := best_of(run.values.get(name, {}), run.sampled)) is not None:
            yield f"{run.labels[name]} = {printed(best[1])}"
