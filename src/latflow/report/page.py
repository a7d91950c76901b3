"""The page of a run: one HTML file with everything in it, which needs no network and runs no script."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from latflow import __version__
from latflow.report import circumstances, tables
from latflow.report.diagnostics import diagnostics_table
from latflow.report.material import Material, Plate, RunLike
from latflow.report.plates import plates
from latflow.report.style import save
from latflow.storage import write_text
from latflow.validation import known

_SUBSCRIPT = re.compile(r"(?<![\w.])([A-Zam-zΣ])_(q|eff|μ|x⃗)(?!\w)")
_FORMATS = (".png", ".pdf")
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class _Picture:
    """A plate as the page has it: its image as text, and the size at which it is shown."""

    plate: Plate
    source: str
    width: int
    height: int


def write_report(run: RunLike, results: Mapping[str, Any] | None = None) -> Path:
    """Write `report.html` into the folder of a run, and its figures as PNG and PDF into `figures/`.

    Stages that have not run yet leave a sentence where their figure would be.

    Args:
        run: the run.
        results: `Validation.as_dict()`; without it the page says that the run is not validated.

    Returns:
        The path of the page.

    Raises:
        OSError: when the folder cannot be written.
    """
    log_z = known(run.action, run.config.reference).get("log_z")
    material = Material(run, None if log_z is None else -log_z.value)
    pictures = [_picture(plate, run.path / "figures") for plate in plates(material)]
    page = run.path / "report.html"
    write_text(page, _render(material, results or {}, pictures))
    return page


def _render(material: Material, results: Mapping[str, Any], pictures: list[_Picture]) -> str:
    run = material.run
    heading, formula = circumstances.theory(run.action)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            name=run.config.name,
            description=getattr(run.config, "description", ""),
            theory=heading,
            formula=formula,
            names=material.names,
            banner=tables.banner(results),
            headline=tables.headline(results),
            verdicts=tables.verdict_tables(results),
            checks=tables.check_table(results),
            diagnostics=diagnostics_table(results),
            timing=circumstances.timing_table(material.history, run.config.training.batch, _chains(material)),
            origin=circumstances.origin_table(run.info),
            command=run.info.get("command", ""),
            configuration=(run.path / "config.toml").read_text(encoding="utf-8"),
            pictures=pictures,
            version=__version__,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def _chains(material: Material) -> dict[str, dict[str, Any]]:
    """Of each chain that has begun what `run.sampling_info` knows, and its number of chains."""
    names = material.names
    found = {
        names.heading: ("flow", material.flow),
        names.beside: (names.group, material.beside),
    }
    return {
        label: {**material.run.sampling_info(name), "chains": series["accepted"].shape[1]}
        for label, (name, series) in found.items()
        if "accepted" in series
    }


def _picture(plate: Plate, folder: Path) -> _Picture:
    """The plate as an image within the page; the same goes to files."""
    files = [folder / f"{plate.name}{suffix}" for suffix in _FORMATS]
    if plate.figure is None:
        for file in files:  # what an earlier report left would contradict this one
            file.unlink(missing_ok=True)
        return _Picture(plate, "", 0, 0)
    for file in files:
        save(plate.figure, file)
    image = base64.b64encode(files[0].read_bytes()).decode("ascii")
    width, height = (round(96 * inches * 1.37) for inches in plate.figure.get_size_inches())
    return _Picture(plate, f"data:image/png;base64,{image}", width, height)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["subscripts"] = _subscripts
    return environment


def _subscripts(text: str) -> Markup:
    """Text in which F_q, m_eff, Σ_μ are set with subscripts; words with underscores stay."""
    return Markup(_SUBSCRIPT.sub(r"\1<sub>\2</sub>", str(escape(text))))
