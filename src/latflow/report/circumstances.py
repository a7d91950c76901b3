"""What a run says of itself: its theory, what its stages did, and on what it ran."""

from collections.abc import Mapping, Sequence
from typing import Any

from latflow.report.tables import Cell, Table
from latflow.theories import Action


def timing_table(
    history: Sequence[Mapping[str, Any]], batch: int | None, chains: Mapping[str, Any]
) -> Table | None:
    """What the stages did, and how long where that is known.

    Args:
        history: the records of the training.
        batch: draws of a training step.
        chains: for each chain its "steps", "chains", and where known "seconds", and what its kernels "found"
            when they tuned themselves, by their names.
    """
    rows = []
    if history:
        seconds, steps = float(history[-1]["seconds"]), len(history)
        what = f"{steps} steps" + (f" of {batch} draws" if batch else "")
        rows.append([Cell("training"), Cell(what), Cell(duration(seconds)), _rate(seconds, steps, "step")])
    for name, chain in chains.items():
        seconds, steps = chain.get("seconds"), chain["steps"]
        what = f"{steps} steps of {chain['chains']} chain{'' if chain['chains'] == 1 else 's'}"
        what += "".join(f", {_tuned(found)}" for found in chain.get("found", {}).values() if found)
        known = [Cell("–"), Cell("–")]
        if seconds is not None:
            known = [Cell(duration(seconds)), _rate(seconds, steps, "step")]
        rows.append([Cell(name), Cell(what), *known])
    return Table("What each stage did.", ["stage", "work", "wall time", "rate"], rows) if rows else None


def origin_table(info: Mapping[str, Any]) -> Table:
    """Versions, seed, device and whatever else `run.json` says, besides the command and the configuration."""
    rows = [
        [Cell(name), Cell(str(value))]
        for name, value in _flat(info)
        if not name.startswith(("command", "configuration."))
    ]
    return Table("Versions and circumstances.", ["what", "value"], rows)


def theory(action: Action) -> tuple[str, str]:
    """The theory as a heading ("φ⁴ theory on 8 × 8, m² = −4, λ = 8"), and the formula if any."""
    words = action.words
    place = f"{words.name} on {' × '.join(map(str, action.lattice))}"
    return ", ".join(part for part in (place, words.parameters) if part), words.formula


def _tuned(found: Mapping[str, float]) -> str:
    """What a kernel found when it tuned itself, in words."""
    if found.keys() - {"inner_steps"} == {"step_size", "n_steps"}:
        inner = f", {found['inner_steps']:.0f} inner steps" if "inner_steps" in found else ""
        return f"trajectories of {found['n_steps']:.0f} × {found['step_size']:.3g}{inner}"
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items())


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} min" if minutes < 60 else f"{hours:.1f} h"


def _rate(seconds: float, steps: int, unit: str) -> Cell:
    return Cell(f"{1000 * seconds / steps:.3g} ms a {unit}" if steps else "")


def _flat(info: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested entries by dotted names; lists of tables (later sittings) as numbered ones."""
    rows: list[tuple[str, Any]] = []
    for name, value in info.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
            for number, entry in enumerate(value, 1):
                rows += _flat(entry, f"{prefix}{name} {number}: ")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows
