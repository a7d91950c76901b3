"""The ways to know a number: one function each, which makes it from what a run has found.

A way that is added to `WAYS` is a column everywhere: in the verdict table, on the terminal, on the page.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from torch import Generator

from latflow.analysis import (
    acceptance,
    draws_behind_errors,
    effective_sample_size,
    expected_acceptance,
    free_energy,
    largest_weight_share,
    longest_rejection_run,
    measure,
    pareto_tail_index,
    reweighted_share,
    summary,
    tunnelling_rate,
    variational_free_energy,
)
from latflow.lattice import volume
from latflow.measurement import Measurement
from latflow.theories import Action
from latflow.validation.evidence import Evidence, MarkovChain, Series
from latflow.validation.known import known
from latflow.validation.neighbour import neighbour_draws
from latflow.validation.sectors import visited

FEWEST_FOR_A_TAIL = 25
"""Weights of which the tail index is told."""
REWEIGHTED = "reweighted_share"
"""The name of the number that tells what reweighting leaves of the configurations of a way."""
OF_WAY = {"model": "", "beside": "beside_", "ensemble": "ensemble_"}
"""What stands before the names of numbers of a chain."""
OF_LOG_Z = ("log_z", "free_energy_density", "entropy")
"""What the weights of a density know only where its integral is one."""


@dataclass(frozen=True)
class Way:
    """A way to know the numbers of a theory.

    Attributes:
        name: "model", "weights", "beside", "ensemble", "neighbour", "exact".
        heading: of its column.
        short: what it is called in a pull: "NIS".
        sentence: what it is called in a sentence: "the model's weighted draws".
        source: of its draws; ways that share their draws are not held against each other.
        sampled: whether it rests on draws; of what is known without any alone a table has no row.
        measurements: what it knows, by the names of observables.
        diagnostics: plain numbers that tell how good it is.
        notes: what it is, or why it is left out.
    """

    name: str
    heading: str
    short: str
    sentence: str
    source: str
    sampled: bool = True
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def model_chain(evidence: Evidence) -> Way | None:
    """The Markov chain of the model."""
    chain = evidence.model
    if chain is None:
        return None
    words, notes = chain.words, []
    if not words.alone:
        notes.append(f"A step of {words.sentence} is {words.step}.")
    if not words.proposes:
        notes.append(
            f"No kernel of {words.sentence} ({words.heading}) proposes draws of the model, so there are no "
            "weights: the column NIS, log Z and the ESS are left out."
        )
    diagnostics = chain_diagnostics(evidence.action, chain)
    diagnostics["longest_rejection_run"] = float(longest_rejection_run(chain.series["accepted"]))
    return _of_chain(evidence.action, chain, "model", "model", diagnostics, notes)


def weighted_draws(evidence: Evidence) -> Way | None:
    """The raw draws of the model with their weights, which its chain has as proposals."""
    draws = evidence.draws
    if not draws:
        return None
    log_weight = draws["log_weight"]
    numbers, notes = measured(evidence.action, draws, log_weight), []
    if not evidence.normalised:
        numbers = {name: m for name, m in numbers.items() if name not in OF_LOG_Z}
        notes.append(
            "The density of the model is known up to a constant alone, so log Z is left out, and F and F_q "
            "are relative to that constant."
        )
    sentence = "the model's weighted draws"
    cost = _cost(evidence.action, draws, sentence, "weights_", log_weight)
    return Way(
        "weights",
        heading="NIS",
        short="NIS",
        sentence=sentence,
        source="model",
        measurements=numbers,
        diagnostics={**_of_weights(log_weight, volume(evidence.action.lattice)), **cost.diagnostics},
        notes=(*notes, *cost.notes),
    )


def beside_chain(evidence: Evidence) -> Way | None:
    """The Markov chain of the established sampler."""
    chain = evidence.beside
    if chain is None:
        return None
    found = chain_diagnostics(evidence.action, chain)
    diagnostics = {f"beside_{name}": number for name, number in found.items()}
    return _of_chain(evidence.action, chain, "beside", chain.words.heading, diagnostics)


def ensemble(evidence: Evidence) -> Way | None:
    """Configurations that were made elsewhere."""
    chain = evidence.ensemble
    if chain is None:
        return None
    found = chain_diagnostics(evidence.action, chain)
    found["longest_run"] = float(longest_rejection_run(chain.series["accepted"]) + 1)
    diagnostics = {f"ensemble_{name}": number for name, number in found.items()}
    return _of_chain(evidence.action, chain, "ensemble", chain.words.heading, diagnostics)


def neighbour(evidence: Evidence) -> Way | None:
    """Exact draws of a theory nearby, weighted with what it lacks, where these weights can be trusted."""
    found = neighbour_draws(evidence.action, Generator().manual_seed(evidence.seed))
    if found is None:
        return None
    numbers, cost, sentence = {}, _Cost(), f"weighted {found.label} draws"
    if found.trusted:
        log_weight = found.series["log_weight"]
        numbers = measured(evidence.action, found.series, log_weight)
        cost = _cost(evidence.action, found.series, sentence, "neighbour_", log_weight)
    return Way(
        "neighbour",
        heading=found.label,
        short=found.label,
        sentence=sentence,
        source="neighbour",
        measurements=numbers,
        diagnostics={**found.diagnostics, **cost.diagnostics},
        notes=(found.note, *cost.notes),
    )


def exact(evidence: Evidence) -> Way | None:
    """What is known without sampling."""
    numbers = known(evidence.action, evidence.reference)
    return Way("exact", "exact", "exact", "the exact result", "exact", sampled=False, measurements=numbers)


WAYS: tuple[Callable[[Evidence], Way | None], ...] = (
    model_chain,
    weighted_draws,
    beside_chain,
    ensemble,
    neighbour,
    exact,
)
"""Each makes a way from what a run has found, or None where there is nothing to make it from."""


def all_ways(evidence: Evidence) -> list[Way]:
    """All that are tried, in the order of the columns; those left out for a reason have no numbers."""
    return [way for way in (make(evidence) for make in WAYS) if way is not None]


def measured(action: Action, series: Series, log_weight: np.ndarray | None = None) -> dict[str, Measurement]:
    """The observables of a theory from what was recorded, reweighted where its weight is not exp(−S)."""
    factor = None if action.reweighting is None else series[action.reweighting]
    return summary(series, action.observables, log_weight, factor)


def chain_diagnostics(action: Action, chain: MarkovChain) -> dict[str, float]:
    """Acceptance of the chain and its kernels, ⟨exp(−ΔH)⟩, and how often it changes between sectors.

    Numbers of the kernels of a cycle have the name of the kernel behind: "acceptance_hmc".
    """
    series = chain.series
    found = {"acceptance": acceptance(series["accepted"]).value}
    for name in series:
        what, _, kernel = name.partition("_")
        if what == "accepted" and kernel:
            found[f"acceptance_{kernel}"] = float(series[name].mean())
        elif name.startswith("delta_h"):
            found[name.replace("delta_h", "exp_minus_delta_h")] = _exp_minus(series[name])
    for observable in action.observables:
        if observable.sectors is not None and observable.name in series:
            rate = tunnelling_rate(visited(observable.sectors, series[observable.name]))
            found[f"tunnelling_{observable.name}"] = rate.value
            found[f"tunnelling_{observable.name}_error"] = rate.error
    return found


def _of_chain(
    action: Action,
    chain: MarkovChain,
    name: str,
    short: str,
    diagnostics: Mapping[str, float],
    notes: Sequence[str] = (),
) -> Way:
    words = chain.words
    cost = _cost(action, chain.series, words.sentence, OF_WAY[name])
    return Way(
        name,
        words.heading,
        short,
        words.sentence,
        source=name,
        measurements=measured(action, chain.series),
        diagnostics={**diagnostics, **cost.diagnostics},
        notes=(*notes, *cost.notes),
    )


class _Cost(NamedTuple):
    """What reweighting leaves of the configurations of a way: numbers by name, and a note."""

    diagnostics: Mapping[str, float] = MappingProxyType({})
    notes: tuple[str, ...] = ()


def _cost(
    action: Action, series: Series, sentence: str, prefix: str, log_weight: np.ndarray | None = None
) -> _Cost:
    """Of averages over `sentence`; nothing where these are not reweighted."""
    name = action.reweighting
    if name is None or not np.any(series[name]):
        return _Cost()
    factor = series[name]
    share, average = reweighted_share(factor, log_weight), measure(factor, log_weight)
    symbol = next((one.in_words for one in action.observables if one.name == name), name)
    note = (
        f"Averages over {sentence} are reweighted with {symbol}, ⟨{symbol}⟩ = {average}: {factor.size} "
        f"configurations count as {share * factor.size:.0f} ({share:.1%}), before autocorrelations."
    )
    return _Cost({f"{prefix}{REWEIGHTED}": share}, (note,))


def _of_weights(log_weight: np.ndarray, sites: int) -> dict[str, float]:
    ess, f_q, f = (
        effective_sample_size(log_weight),
        variational_free_energy(log_weight),
        free_energy(log_weight),
    )
    found = {
        "draws": float(log_weight.size),
        "ess": ess,
        "s2": -math.log(ess) / sites,
        "expected_acceptance": expected_acceptance(log_weight),
        "draws_behind_errors": draws_behind_errors(log_weight),
        "largest_weight_share": largest_weight_share(log_weight),
        "f_q": f_q.value,
        "f_q_error": f_q.error,
        "free_energy": f.value,
        "free_energy_error": f.error,
    }
    if log_weight.size >= FEWEST_FOR_A_TAIL:
        found["pareto_k"] = pareto_tail_index(log_weight)
    return found


def _exp_minus(delta_h: np.ndarray) -> float:
    return float(np.exp(-np.clip(delta_h, -50, None)).mean())
