"""Whether a run has found enough for a verdict: numbers without evidence neither pass nor fail."""

import math
from collections.abc import Iterator, Mapping, Sequence

from latflow.analysis.summary import FEWEST_ERRORS
from latflow.validation.evidence import Evidence, MarkovChain
from latflow.validation.table import MAX_PULL, Row
from latflow.validation.ways import OF_WAY, REWEIGHTED, Way
from latflow.validation.words import Chain

PARETO_LIMIT = 0.7
"""Above this tail index of the weights, averages over the model's draws cannot be trusted."""

LARGEST_SHARE = 0.1
"""Of all weight, that one draw may carry."""

FEWEST = 50.0
"""Independent configurations, or draws that count as such, below which an error is not known to a tenth.

Of weighted draws it is asked of N·ESS, and of the draws behind their errors: where these are fewer, intervals
of one standard deviation were seen to hold the truth in 53 to 58% of short runs instead of 68%, at any N·ESS
(the experiment `coverage`).
"""

_LENGTH: dict[Chain, str] = {
    "model": "sampling.steps = {} would do",
    "beside": "beside.steps = {} would do",
    "ensemble": "{} a chain would do",
}


def doubts(evidence: Evidence, ways: Sequence[Way], rows: Sequence[Row]) -> Iterator[str]:
    """Why there is no verdict, and what to do: a sentence for each reason.

    Args:
        evidence: what the run has found.
        ways: the ways to know a number that have some.
        rows: the table of them.
    """
    for name, reasons in _of_ways(evidence, ways).items():
        if name != "weights" or rests_on_weights(evidence):
            yield from reasons
    yield from _of_signs(evidence, ways)
    if apart := "; ".join(_apart(ways, rows)):
        yield (
            f"Differences of more than {MAX_PULL:g} errors that are not known and may be too small: {apart}. "
            "A longer training or more steps tell whether this is chance or a fault."
        )
    if evidence.ensemble is None and not any(row.pulls for row in rows):
        other = "add a [model]" if evidence.model is None else "switch [beside] on"
        yield (
            f"No two independent ways know the same number: {other}, or give a [reference], to hold these "
            "numbers against."
        )


def undecided(evidence: Evidence, ways: Sequence[Way]) -> frozenset[str]:
    """The names of the ways whose errors are not known, so that a difference from them decides nothing.

    A chain that nothing but proposals of a model moves is worth what their weights are. The arguments are
    those of `doubts`.
    """
    names = frozenset(_of_ways(evidence, ways))
    alone = evidence.model is not None and evidence.model.words.alone
    return names | {"model"} if alone and "weights" in names else names


def _of_ways(evidence: Evidence, ways: Sequence[Way]) -> dict[str, list[str]]:
    """Why the errors of a way are not known, by the names of the ways of which that is said."""
    found, reasons = {way.name: way for way in ways}, {}
    if "weights" in found:
        reasons["weights"] = list(of_weights(found["weights"].diagnostics))
    chains: tuple[tuple[Chain, MarkovChain | None], ...] = (
        ("model", evidence.model),
        ("beside", evidence.beside),
        ("ensemble", evidence.ensemble),
    )
    for name, chain in chains:
        if chain is not None and name in found:
            reasons[name] = list(_of_chain(evidence, name, chain, found[name]))
    return {name: several for name, several in reasons.items() if several}


def _apart(ways: Sequence[Way], rows: Sequence[Row]) -> Iterator[str]:
    """Large differences that fail no run, since the error of one side is not known; nor may they pass."""
    short = {way.name: way.short for way in ways}
    for row in rows:
        for (one, other), pull in row.pulls.items():
            if abs(pull) > MAX_PULL and row.undecided.intersection((one, other)):
                yield f"{row.label}, {short[one]} − {short[other]}: {pull:+.1f}"


def _of_signs(evidence: Evidence, ways: Sequence[Way]) -> Iterator[str]:
    """Whether what averages are divided by is known not to be zero."""
    name = evidence.action.reweighting
    for way in ways:
        average = way.measurements.get(name or "")
        if way.sampled and average is not None and not abs(average.value) > FEWEST_ERRORS * average.error:
            yield (
                f"Averages over {way.sentence} are divided by ⟨{name}⟩ = {average}, which is not known to be "
                f"{FEWEST_ERRORS:.0f} errors from zero: this sign problem takes many more configurations."
            )


def rests_on_weights(evidence: Evidence) -> bool:
    """Whether the numbers of the model are worth what its weights are: no other kernel moves its chain."""
    return evidence.model is None or evidence.model.words.alone


def of_weights(diagnostics: Mapping[str, float]) -> Iterator[str]:
    """Why the weights of the model's draws may not be trusted."""
    remedy = "train longer, or take another model"
    if (index := diagnostics.get("pareto_k", -math.inf)) > PARETO_LIMIT:
        yield (
            f"The Pareto tail index of the weights is {index:.2f}, above {PARETO_LIMIT}: the model misses "
            f"part of the target, and averages over its draws cannot be trusted: {remedy}."
        )
    if (share := diagnostics.get("largest_weight_share", 0.0)) > LARGEST_SHARE:
        yield f"A single draw carries {share:.0%} of all weight: the errors are not reliable: {remedy}."
    if (count := diagnostics.get("ess", 1.0) * diagnostics.get("draws", math.inf)) < FEWEST:
        yield (
            f"The model's weighted draws count as {count:.1f} independent ones, expected at least "
            f"{FEWEST:.0f}: {remedy}, or more of sampling.steps."
        )
    elif (behind := diagnostics.get("draws_behind_errors", math.inf)) < FEWEST:
        yield (
            f"Errors of the model's weighted draws rest on {behind:.1f} draws, (Σw²)²/Σw⁴, expected at least "
            f"{FEWEST:.0f}, and come out too small: {remedy}, or more of sampling.steps."
        )


def _of_chain(evidence: Evidence, name: Chain, chain: MarkovChain, way: Way) -> Iterator[str]:
    """Whether a chain has moved, and how many independent configurations it is worth."""
    names = [one.name for one in evidence.action.observables if one.name in chain.series]
    sentence, steps = chain.words.sentence, len(chain.series["action"])
    if names and all((chain.series[name] == chain.series[name][:1]).all() for name in names):
        yield (
            f"Nothing changed in {steps} steps of {sentence}: averages over it have no error. Its "
            "acceptance says why; a smaller step or another kernel moves it."
        )
        return
    action = way.measurements.get("action_density")
    if action is None or action.tau_int is None or action.n is None:
        return
    share = way.diagnostics.get(f"{OF_WAY[name]}{REWEIGHTED}", 1.0)
    count = share * action.n / max(2 * action.tau_int, 1.0)
    if count < FEWEST:
        yield (
            f"The {action.n} configurations of {sentence} count as {count:.0f} independent ones, expected at "
            f"least {FEWEST:.0f}: {_LENGTH[name].format(math.ceil(steps * FEWEST / count))}."
        )
