"""The page of a run or an ensemble: one HTML file that holds everything, needs no network, runs no script."""

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

from latflow.figures import save
from latflow.report import circumstances, tables
from latflow.report.chain_plates import slow_ones
from latflow.report.diagnostics import diagnostics_table
from latflow.report.ensemble import EnsembleMaterial
from latflow.report.material import Material
from latflow.report.plate import Plate
from latflow.report.plates import plates
from latflow.runs import Run
from latflow.runs.provenance import plain
from latflow.storage import DIGEST, with_digest, write_text
from latflow.validation import Judgement, Validation
from latflow.validation.words import CHAINS
from latflow.version import __version__

_MARK = "latflow-verdict"
_SUBSCRIPT = re.compile(r"(?<![\w.])([A-Zam-zΣ])_(q|eff|μ|x⃗)(?!\w)")
_FORMATS = (".png", ".pdf")
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A plate as the page has it: its image as text, and the size at which it is shown."""

    plate: Plate
    source: str
    width: int
    height: int


def write_report(run: Run, validation: Validation | None = None) -> Path:
    """Write `report.html` into the folder of a run, and its figures as PNG and PDF into `figures/`.

    Stages that have not run yet leave a sentence where their figure would be.

    Args:
        run: the run.
        validation: the verdict on it; without one the page says that it is not validated.

    Returns:
        The path of the page.

    Raises:
        OSError: when the folder cannot be written.
    """
    material = Material(run)
    about = {
        "name": run.config.name,
        "description": run.config.description,
        "timing": circumstances.timing_table(
            material.history, getattr(run.config.training, "batch", None), _chains(material)
        ),
        "origin": circumstances.origin_table(run.info),
        "command": run.info.get("command", ""),
        "configuration": (run.path / "config.toml").read_text(encoding="utf-8"),
        "mark": "" if validation is None else mark_of(validation),
    }
    return _write(run.path, material, validation, about)


def mark_of(validation: Validation) -> str:
    """By which a page is known to be that of a verdict, whatever the clock says of their files."""
    return with_digest(plain(validation.as_dict()))[DIGEST]


def mark_in(page: Path) -> str | None:
    """The mark of the verdict that a page shows; None where there is no page, or one of no verdict."""
    if not page.is_file():
        return None
    with page.open("rb") as file:
        found = re.search(rf'name="{_MARK}" content="(\w+)"', file.read(4096).decode(errors="replace"))
    return None if found is None else found[1]


def write_judgement(judgement: Judgement, folder: Path, command: str = "") -> Path:
    """Write `report.html` on an ensemble into a folder, and its figures as PNG and PDF into `figures/`.

    Args:
        judgement: the verdict on the ensemble, and what was measured of it.
        folder: which is made where it is missing.
        command: that was typed.

    Returns:
        The path of the page.

    Raises:
        OSError: when the folder cannot be written.
    """
    material = EnsembleMaterial(judgement)
    about = {
        "name": judgement.ensemble.path.name,
        "description": material.description,
        "origin": circumstances.origin_table({**material.origin, "latflow": __version__}),
        "command": command,
        "reweighted": tables.reweighted_table(judgement.reweighted),
    }
    return _write(folder, material, judgement.validation, about)


def _write(folder: Path, material: Material, validation: Validation | None, about: Mapping[str, Any]) -> Path:
    """The page, with what is said `about` the subject of it alone."""
    observables, kernels = material.action.observables, material.kernels
    heading, formula = circumstances.theory(material.action)
    pictures = [picture(plate, folder / "figures") for plate in plates(material)]
    page = folder / "report.html"
    template = environment().get_template("report.html.j2")
    text = template.render(
        theory=heading,
        formula=formula,
        banner=tables.banner(validation),
        headline=tables.headline(validation, slow_ones(observables)[0], kernels),
        verdicts=tables.verdict_tables(validation),
        checks=tables.check_table(validation),
        diagnostics=diagnostics_table(validation, kernels, {one.name: one.in_words for one in observables}),
        pictures=pictures,
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **{"timing": None, "configuration": "", "reweighted": None, "mark": "", **about},
    )
    write_text(page, text)
    return page


def _chains(material: Material) -> dict[str, dict[str, Any]]:
    """Of each chain that has begun what `run.sampling_info` knows, and its number of chains."""
    return {
        material.words[chain].heading: {
            **material.run.sampling_info(chain),
            "chains": material.series[chain]["accepted"].shape[1],
        }
        for chain in CHAINS
        if chain in material.words and "accepted" in material.series[chain]
    }


def picture(plate: Plate, folder: Path) -> Picture:
    """The plate as an image within the page; the same goes to files."""
    files = [folder / f"{plate.name}{suffix}" for suffix in _FORMATS]
    if plate.figure is None:
        for file in files:  # what an earlier report left would contradict this one
            file.unlink(missing_ok=True)
        return Picture(plate, "", 0, 0)
    for file in files:
        save(plate.figure, file)
    image = base64.b64encode(files[0].read_bytes()).decode("ascii")
    width, height = (round(96 * inches * 1.37) for inches in plate.figure.get_size_inches())
    return Picture(plate, f"data:image/png;base64,{image}", width, height)


@cache
def environment() -> jinja2.Environment:
    """The templates of pages."""
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
