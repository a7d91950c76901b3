"""What speaks against a pilot: a chain that does not move, sectors that it hardly changes, heavy weights."""

from collections.abc import Iterator, Mapping

import numpy as np

from latflow.analysis import pareto_tail_index
from latflow.planning.pilot import Finding, Pilot
from latflow.theories import Action
from latflow.validation.evidence import MarkovChain
from latflow.validation.sectors import LEAST_EXPECTED, sector_checks, visited
from latflow.validation.words import ChainWords

_HEAVIEST = 0.7
"""Of the Pareto tail index: above it no number of draws that one can afford makes averages reliable."""
_FEWEST_DRAWS = 25
_LEAST_CHANGES = 2
"""Of sector, by each chain on average: of one that changed less often nothing is known but its start."""


def doubts(pilot: Pilot, finding: Finding) -> tuple[str, ...]:
    """Why its numbers are not to be trusted, however exact they look; none where they are."""
    found = list(_of_weights(pilot))
    if not finding.weighted:
        found += _of_chain(pilot, finding)
    average = finding.average
    if not found and average is not None and finding.need(pilot.question) is None:
        found.append(
            f"its average, {average}, is not known to differ from zero: a relative error has no meaning yet"
        )
    return tuple(found)


def _of_weights(pilot: Pilot) -> Iterator[str]:
    series, bad = pilot.draws
    if bad:
        yield f"{bad} draws have a log-weight that is not finite"
    log_weight = series.get("log_weight", np.zeros(0))
    if len(log_weight) >= _FEWEST_DRAWS and (k := pareto_tail_index(log_weight)) > _HEAVIEST:
        yield f"a few draws carry the weights (Pareto k = {k:.2f})"


def _of_chain(pilot: Pilot, finding: Finding) -> Iterator[str]:
    series, action = pilot.record(), pilot.question.action
    average = finding.average
    if average is None:
        yield "its record does not hold the observable"
    elif average.warning and not average.warning.endswith("would do"):  # what is short is told otherwise
        yield f"the observable is {average.warning}" if average.warning == "constant" else average.warning
    yield from _of_sectors(action, series)
    words = ChainWords(pilot.method.title, "the pilot", pilot.sampler.step_words)
    for check in sector_checks(action, [MarkovChain(words, series)]):
        if not check.passed:
            yield check.detail


def _of_sectors(action: Action, series: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Too few changes of sector to tell how often they change, where another one should be seen."""
    for observable in action.observables:
        sectors = observable.sectors
        if sectors is None or observable.name not in series:
            continue
        history = visited(sectors, series[observable.name])
        changes = int((np.diff(history, axis=0) != 0).sum())
        if changes >= max(LEAST_EXPECTED, _LEAST_CHANGES * history.shape[1]):
            continue
        numbers = np.asarray(sectors.number(series[observable.name]))
        usual = (
            int(np.bincount(numbers[numbers >= 0].astype(np.int64)).argmax()) if (numbers >= 0).any() else 0
        )
        values = None if sectors.values is None else np.array(sectors.values(usual))
        share = None if values is None else action.probability(observable.name, values)
        if share is not None and (1 - float(np.sum(share))) * numbers.size < LEAST_EXPECTED:
            continue  # no other sector is to be expected
        times = "no change" if not changes else f"{changes} change{'s' if changes > 1 else ''}"
        yield (
            f"saw {times} of {sectors.title} in {len(history)} steps of {history.shape[1]} chains: what it "
            "tells of averages and of τ cannot be trusted"
        )
