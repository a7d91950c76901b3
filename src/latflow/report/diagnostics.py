"""The table of diagnostics: what the weights and the chains of a run say of themselves."""

from collections.abc import Callable, Mapping
from typing import Any

from latflow.analysis import Measurement
from latflow.report.tables import Cell, Table, names_in, printed
from latflow.validation import PARETO_WARNING, Names

_Format = Callable[[float], str]


def _share(number: float) -> str:
    return f"{number:.3f}"


def _count(number: float) -> str:
    return f"{number:.0f}"


def _general(number: float) -> str:
    return f"{number:.3g}"


_DIAGNOSTICS: dict[str, tuple[str, str, _Format]] = {
    "draws": ("Proposals", "draws of the {model} behind the numbers of its weights", _count),
    "ess": ("Effective sample size", "(Σw)² / (N Σw²), the share of the proposals that count", _share),
    "acceptance": ("Acceptance", "of the {mover} chain, as it ran", _share),
    "expected_acceptance": ("Expected acceptance", "from the weights of the proposals alone", _share),
    "longest_rejection_run": (
        "Longest run of rejections",
        "steps in a row, in any of the {mover} chains",
        _count,
    ),
    "largest_weight_share": ("Largest share of one weight", "max w / Σw", _general),
    "pareto_k": (
        "Pareto tail index k̂",
        f"of the largest weights; unreliable above {PARETO_WARNING}",
        _general,
    ),
    "f_q": ("Variational free energy F_q", "−⟨log w⟩", _general),
    "free_energy": ("Free energy F", "−log Z = −log⟨w⟩", _general),
    "exp_minus_delta_h": ("⟨exp(−ΔH)⟩ of the {mover} chain", "is 1 in equilibrium", _share),
    "hmc_acceptance": ("Acceptance of HMC", "of its trajectories", _share),
    "classical_changed": ("Spins that change in a step", "of the {beside} chain, share of all", _share),
    "tunnelling_rate": ("Tunnelling of the {mover} chain", "share of steps at which Q changes", _general),
    "hmc_tunnelling_rate": ("Tunnelling of HMC", "share of trajectories at which Q changes", _general),
    "quenched_draws": ("Quenched draws", "exact draws of the pure gauge theory", _count),
    "quenched_ess": ("ESS of quenched draws", "weighted with the determinant", _general),
    "quenched_pareto_k": ("Pareto tail index k̂ of quenched draws", "of the largest weights", _general),
    "hmc_exp_minus_delta_h": ("⟨exp(−ΔH)⟩ of HMC", "is 1 in equilibrium", _share),
}


def diagnostics_table(results: Mapping[str, Any]) -> Table | None:
    """What the weights and the chains say of themselves; None where nothing is known."""
    found = {k: v for k, v in results.get("diagnostics", {}).items() if not k.endswith("_error")}
    if not found:
        return None
    order = [name for name in _DIAGNOSTICS if name in found] + [
        name for name in found if name not in _DIAGNOSTICS
    ]
    names, rows = names_in(results), []
    for name in order:
        label, meaning, write = _DIAGNOSTICS.get(name) or _of_kernel(name, names)
        error = results["diagnostics"].get(f"{name}_error")
        value = float(found[name])
        text = write(value)
        if error is not None:
            text = printed(Measurement(value, error))
        doubtful = name == "pareto_k" and value > PARETO_WARNING
        note = f"the {names['model']} misses part of the target" if doubtful else ""
        value_cell = Cell(text.replace("-", "−"), note, "warn" if doubtful else "")
        rows.append([Cell(label.format(**names)), value_cell, Cell(meaning.format(**names))])
    return Table("Diagnostics of the weights and of the chains.", ["quantity", "value", "meaning"], rows)


def _of_kernel(name: str, names: Mapping[str, Any]) -> tuple[str, str, _Format]:
    """A number of one kernel of the chain, or one that is not known here."""
    words = Names(model=names["model"])
    for what, text in (("acceptance_", "Acceptance of {}"), ("exp_minus_delta_h_", "⟨exp(−ΔH)⟩ of {}")):
        kernel = name.removeprefix(what)
        if name.startswith(what) and kernel in names["kernels"]:
            return text.format(words.kernel(kernel)), "as a kernel of the {mover} chain", _share
    return name.replace("_", " "), "", _general
