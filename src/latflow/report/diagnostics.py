"""The table of diagnostics: what the weights and the chains of a run say of themselves."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from latflow.measurement import Measurement
from latflow.report.tables import Cell, Table, printed
from latflow.validation import FEWEST, PARETO_LIMIT, Validation

_DOUBTFUL = "pareto_k"


class _Diagnostic(NamedTuple):
    """What a number is called, what it means, and how it is written."""

    label: str
    meaning: str
    write: Callable[[float], str]


def _share(number: float) -> str:
    return f"{number:.3f}"


def _count(number: float) -> str:
    return f"{number:.0f}"


def _general(number: float) -> str:
    return f"{number:.3g}"


_KNOWN = {
    "draws": _Diagnostic("Proposals", "draws of the model behind the numbers of its weights", _count),
    "ess": _Diagnostic(
        "Effective sample size", "(Σw)² / (N Σw²), the share of the proposals that count", _share
    ),
    "s2": _Diagnostic("s²", "−ln(ESS)/V, which compares models on different lattices", _general),
    "acceptance": _Diagnostic("Acceptance", "of the model's chain, as it ran", _share),
    "expected_acceptance": _Diagnostic(
        "Expected acceptance", "from the weights of the proposals alone", _share
    ),
    "longest_rejection_run": _Diagnostic(
        "Longest run of rejections", "steps in a row, in any of the model's chains", _count
    ),
    "draws_behind_errors": _Diagnostic(
        "Draws behind the errors of weights", f"(Σw²)² / Σw⁴; too small errors below {FEWEST:.0f}", _general
    ),
    "largest_weight_share": _Diagnostic("Largest share of one weight", "max w / Σw", _general),
    "pareto_k": _Diagnostic(
        "Pareto tail index k̂", f"of the largest weights; unreliable above {PARETO_LIMIT}", _general
    ),
    "f_q": _Diagnostic("Variational free energy F_q", "−⟨log w⟩", _general),
    "free_energy": _Diagnostic("Free energy F", "−log Z = −log⟨w⟩", _general),
    "exp_minus_delta_h": _Diagnostic("⟨exp(−ΔH)⟩ of the model's chain", "is 1 in equilibrium", _share),
    "beside_acceptance": _Diagnostic(
        "Acceptance of {beside}",
        "as it ran; of single spins or clusters the share of the spins that a step changes",
        _share,
    ),
    "ensemble_acceptance": _Diagnostic(
        "Share that differs from the one before", "of the configurations of the ensemble", _share
    ),
    "ensemble_longest_run": _Diagnostic(
        "Longest run of equal configurations", "in any chain of the ensemble", _count
    ),
    "beside_exp_minus_delta_h": _Diagnostic("⟨exp(−ΔH)⟩ of {beside}", "is 1 in equilibrium", _share),
    **{
        f"{way}reweighted_share": _Diagnostic(
            f"Share that the sign leaves of {words}", "(Σwσ)² / (N Σw²σ²), ⟨σ⟩² of a chain", _share
        )
        for way, words in (
            ("", "the model's chain"),
            ("beside_", "{beside}"),
            ("ensemble_", "the ensemble"),
            ("weights_", "the proposals"),
            ("neighbour_", "{neighbour} draws"),
        )
    },
    "neighbour_draws": _Diagnostic("{Neighbour} draws", "exact draws of a theory nearby", _count),
    "neighbour_ess": _Diagnostic(
        "ESS of {neighbour} draws", "weighted with what that theory lacks", _general
    ),
    "neighbour_pareto_k": _Diagnostic(
        "Pareto tail index k̂ of {neighbour} draws", "of the largest weights", _general
    ),
}
"""Numbers by name, in the order of the table."""

_OF_KERNELS = {
    "acceptance_": _Diagnostic("Acceptance of {kernel}", "as a kernel of {chain}", _share),
    "exp_minus_delta_h_": _Diagnostic("⟨exp(−ΔH)⟩ of {kernel}", "as a kernel of {chain}", _share),
}
"""Numbers of one kernel of a chain, by what stands before its name."""

_TUNNELLING = "tunnelling_"


def diagnostics_table(
    validation: Validation | None,
    kernels: Mapping[str, str] | None = None,
    symbols: Mapping[str, str] | None = None,
) -> Table | None:
    """What the weights and the chains say of themselves; None where nothing is known.

    Args:
        validation: the verdict, if there is one.
        kernels: what the kernels of the chains are called, by their names.
        symbols: of the observables, by their names.
    """
    if validation is None or not validation.diagnostics:
        return None
    diagnostics, rows = validation.diagnostics, []
    found = [name for name in diagnostics if not name.endswith("_error")]
    order = [name for name in _KNOWN if name in found] + [name for name in found if name not in _KNOWN]
    words = _words(validation)
    for name in order:
        known = _KNOWN.get(name) or _named(name, words, kernels or {}, symbols or {})
        value, error = float(diagnostics[name]), diagnostics.get(f"{name}_error")
        if error is None or math.isnan(error):  # there is none where nothing ever changed
            text = known.write(value)
        else:
            text = printed(Measurement(value, error))
        doubtful = name == _DOUBTFUL and value > PARETO_LIMIT
        cell = Cell(
            text.replace("-", "−"),
            "the model misses part of the target" if doubtful else "",
            "warn" if doubtful else "",
        )
        rows.append([Cell(known.label.format(**words)), cell, Cell(known.meaning.format(**words))])
    return Table("Diagnostics of the weights and of the chains.", ["quantity", "value", "meaning"], rows)


def _words(validation: Validation) -> dict[str, str]:
    """What the other ways are called, in general words where they have no numbers of their own."""
    beside, neighbour = validation.way("beside"), validation.way("neighbour")
    label = neighbour.short if neighbour is not None else "reweighted"
    return {
        "beside": beside.sentence if beside is not None else "the chain beside the model",
        "neighbour": label,
        "Neighbour": label[:1].upper() + label[1:],
    }


def _named(
    name: str, words: Mapping[str, str], kernels: Mapping[str, str], symbols: Mapping[str, str]
) -> _Diagnostic:
    """A number whose name holds that of a kernel or an observable, or one that is not known here."""
    own = name.removeprefix("beside_")
    chain = "the model's chain" if own == name else words["beside"]
    for prefix, of_kernel in _OF_KERNELS.items():
        kernel = own.removeprefix(prefix)
        if own != kernel and kernel in kernels:
            label, meaning = (
                text.format(kernel=kernels[kernel], chain=chain)
                for text in (of_kernel.label, of_kernel.meaning)
            )
            return _Diagnostic(label, meaning, of_kernel.write)
    if own.startswith(_TUNNELLING):
        symbol = symbols.get(own.removeprefix(_TUNNELLING), own.removeprefix(_TUNNELLING).replace("_", " "))
        return _Diagnostic(
            f"Tunnelling of {chain}", f"share of steps at which the sector of {symbol} changes", _general
        )
    return _Diagnostic(name.replace("_", " "), "", _general)
