"""What a run says of itself: its theory, what its stages did, and on what it ran."""

from collections.abc import Mapping, Sequence
from typing import Any

from latflow.actions import Action, HoppingPhi4, Ising, Phi4, Sum, U1Gauge, WilsonFermions
from latflow.report.tables import Cell, Table


def timing_table(
    history: Sequence[Mapping[str, Any]], batch: int | None, chains: Mapping[str, Any]
) -> Table | None:
    """What the stages did, and how long where that is known.

    Args:
        history: the records of the training.
        batch: draws of a training step.
        chains: for each chain its "steps", "chains", and where known "seconds", "step_size" and "n_steps", or
            "trajectories" with these of several kernels.
    """
    rows = []
    if history:
        seconds, steps = float(history[-1]["seconds"]), len(history)
        what = f"{steps} steps" + (f" of {batch} draws" if batch else "")
        rows.append([Cell("training"), Cell(what), Cell(_duration(seconds)), _rate(seconds, steps, "step")])
    for name, chain in chains.items():
        seconds, steps = chain.get("seconds"), chain["steps"]
        what = f"{steps} steps of {chain['chains']} chain{'' if chain['chains'] == 1 else 's'}"
        tuned = chain.get("trajectories", {name: chain} if "step_size" in chain else {})
        for one in tuned.values():
            what += f", trajectories of {one['n_steps']} × {one['step_size']:.3g}"
        known = [Cell("–"), Cell("–")]
        if seconds is not None:
            known = [Cell(_duration(seconds)), _rate(seconds, steps, "step")]
        rows.append([Cell(name), Cell(what), *known])
    return Table("What each stage did.", ["stage", "work", "wall time", "rate"], rows) if rows else None


def origin_table(info: Mapping[str, Any]) -> Table:
    """Versions, seed, device and whatever else `run.json` says, besides the command and later sittings."""
    rows = [[Cell(name), Cell(str(value))] for name, value in _flat(info) if name not in ("command",)]
    return Table("Versions and circumstances.", ["what", "value"], rows)


def theory(action: Action) -> tuple[str, str]:
    """The theory as a heading ("φ⁴ theory on 8 × 8, m² = −4, λ = 8"), and its action as a formula."""
    lattice = " × ".join(map(str, action.lattice))
    match action:
        case Phi4(m2=m2, lam=lam):
            name, text, formula = "φ⁴ theory", f"m² = {m2:g}, λ = {lam:g}", "S = Σₓ [ φ(−Δ)φ + m²φ² + λφ⁴ ]"
        case HoppingPhi4(beta=beta, lam=lam):
            name, text = "φ⁴ theory", f"β = {beta:g}, λ = {lam:g}"
            formula = "S = Σₓ [ −β Σ_μ φ(x)φ(x+μ) + φ² + λ(φ²−1)² ]"
        case U1Gauge(beta=beta):
            name, text, formula = "U(1) gauge theory", f"β = {beta:g}", "S = −β Σₓ cos P(x)"
        case Sum(first=U1Gauge(beta=beta), second=WilsonFermions() as fermions):
            flavours = f"{fermions.flavours} flavour{'' if fermions.flavours == 1 else 's'}"
            name = "Schwinger model"
            text = f"β = {beta:g}, κ = {fermions.kappa:g}, {flavours}, {fermions.boundary} in time"
            formula = f"S = −β Σₓ cos P(x) − {_times(fermions.flavours)}log |det D|"
        case Ising(beta=beta, field=h, couplings=couplings):
            name, text = "Ising model", f"β = {beta:.10g}" + (f", h = {h:g}" if h else "")
            bonds = "s(x)s(x+μ)" if couplings is None else "J_μ(x)s(x)s(x+μ)"
            formula = f"S = −β Σₓ Σ_μ {bonds}" + (" − h Σₓ s(x)" if h else "")
        case _:
            return f"{type(action).__name__} on {lattice}", ""
    return f"{name} on {lattice}, {text}".replace("-", "−"), formula


def _times(number: int) -> str:
    return "" if number == 1 else f"{number} "


def _duration(seconds: float) -> str:
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
