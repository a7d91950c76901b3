"""What a scan has found, on the disk: `scan.json`, `scan.csv`, `scan.md`, `scan.html`, and figures."""

import csv
import io
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latflow.measurement import Measurement
from latflow.report.overview import SCAN_PAGE
from latflow.report.page import environment, picture
from latflow.runs.provenance import plain
from latflow.scans.findings import Findings
from latflow.scans.folder import SCAN, ScanFolder
from latflow.scans.groups import STATES, Group
from latflow.scans.plates import plates
from latflow.scans.tables import critical_tables, markdown, observable_table, overview_table
from latflow.storage import write_text
from latflow.version import __version__


def write(folder: ScanFolder, found: Findings) -> Path:
    """Write all of it into the folder of a scan.

    Returns:
        The path of the page.

    Raises:
        OSError: when the folder cannot be written.
    """
    drawn = list(plates(found))
    pictures = [picture(plate, folder.path / "figures") for plate in drawn]
    overview, critical = overview_table(found, folder.path), critical_tables(found)
    observables = [observable_table(found, one) for one in found.observables]
    write_text(folder.path / "scan.json", json.dumps(plain(as_dict(found)), indent=1, allow_nan=False))
    write_text(folder.path / "scan.csv", _csv(found))
    title, status = headline(found)
    parts = [f"# {found.name}", f"{what(folder)} {title}.", *found.notes, markdown(overview)]
    parts += [markdown(table) for table in (*critical, *observables)]
    parts += [f"![{plate.title}](figures/{plate.name}.png)" for plate in drawn]
    write_text(folder.path / "scan.md", "\n\n".join(parts) + "\n")
    page = folder.path / SCAN_PAGE
    write_text(
        page,
        environment()
        .get_template("scan.html.j2")
        .render(
            name=found.name,
            what=what(folder),
            description=folder.scan.table.get("description", ""),
            status=status,
            title=title,
            notes=found.notes,
            overview=overview,
            critical=critical,
            observables=observables,
            pictures=pictures,
            configuration=(folder.path / SCAN).read_text(encoding="utf-8"),
            version=__version__,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        ),
    )
    return page


def what(folder: ScanFolder) -> str:
    """What is scanned, in a sentence."""
    axes = [f"{len(axis.steps)} values of {' with '.join(axis.keys)}" for axis in folder.scan.axes]
    return f"{len(folder.runs)} runs: {' × '.join(axes)}."


def headline(found: Findings) -> tuple[str, str]:
    """How the runs have ended, as a title and as the status of the banner."""
    states = [group.state for group in found.groups]
    counts = {state: states.count(state) for state in STATES if state in states}
    worst = max(states, key=STATES.index)
    title = (
        "All runs passed" if worst == "passed" else ", ".join(f"{n} {state}" for state, n in counts.items())
    )
    return title, {"unfinished": "unknown", "outdated": "unknown", "damaged": "failed"}.get(worst, worst)


def as_dict(found: Findings) -> dict[str, Any]:
    """The findings as plain numbers and strings."""
    return {
        "name": found.name,
        "keys": found.keys,
        "parameter": found.parameter,
        "ways": found.ways,
        "groups": [_group(group) for group in found.groups],
        "critical": [
            {
                "observable": one.observable.name,
                "divided_by_L_to_the": one.observable.scaling,
                "settings": dict(one.settings),
                "crossings": [asdict(each) for each in one.crossings],
                "collapse": asdict(one.collapse),
            }
            for one in found.critical
        ],
        "notes": found.notes,
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "settings": dict(group.settings),
        "state": group.state,
        "runs": [
            {"folder": run.name, "values": run.point.values, "seed": run.config.seed}
            | {"state": found.state, "why": found.why, "seconds": dict(found.seconds)}
            for run, found in group.runs
        ],
        "values": {name: {way: asdict(m) for way, m in ways.items()} for name, ways in group.values.items()},
        "agreement": {
            name: {way: asdict(one) for way, one in ways.items()} for name, ways in group.agreement.items()
        },
    }


_NUMBERS = ("value", "error", "tau_int", "tau_int_error", "n", "warning")


def _csv(found: Findings) -> str:
    """A line for each number of each run, by each way."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    keys = list(
        dict.fromkeys(key for group in found.groups for run, _ in group.runs for key in run.point.values)
    )
    table.writerow(["run", *keys, "state", "observable", "way", *_NUMBERS])
    for group in found.groups:
        for run, there in group.runs:
            values = [_plain(run.point.values[key]) for key in keys]
            for name, ways in there.values.items():
                for way, m in ways.items():
                    table.writerow([run.name, *values, there.state, name, way, *_numbers(m)])
    return text.getvalue()


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _numbers(m: Measurement) -> list[Any]:
    return ["" if (value := getattr(m, name)) is None else value for name in _NUMBERS]
