"""Runs side by side: what differs in their settings, what they have found, and what it has cost."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latflow.analysis import price
from latflow.config import differing, flat
from latflow.measurement import Measurement
from latflow.validation.table import Row, comparable
from latflow.validation.verdict import Validation, validate
from latflow.validation.ways import Way
from latflow.validation.words import CHAINS, Chain, chain_words

if TYPE_CHECKING:
    from latflow.runs import Run

_WORDS = ("name", "description")
"""Keys that decide no number."""


@dataclass(frozen=True)
class Cost:
    """What a chain of a run has cost, in seconds by the clock.

    Attributes:
        run: its name.
        chain: what it is called.
        training: of the model that moves it, without that of a run with whose weights it began; None for
            other chains.
        ess: of the model's weights, likewise.
        acceptance: of the chain.
        tau: of the slowest observable that is told, in steps, with its label.
        configuration: 2τ times the seconds of a step of one chain, tuning and thermalisation included: what
            an independent value of that observable took.
    """

    run: str
    chain: str
    training: float | None
    ess: float | None
    acceptance: float
    tau: tuple[str, Measurement] | None
    configuration: Measurement | None


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        names: of the runs, as short as tells them apart.
        ways: how each knows its numbers: by the chain of its model, or else by the established sampler.
        settings: the keys that differ, with the value in each run, None where it has none.
        rows: the observables, the value of each by the name of the run; with pulls where the theory is the
            same.
        costs: of each chain.
        same_theory: whether all runs are of one theory, coupling by coupling.
    """

    names: list[str]
    ways: list[str]
    settings: dict[str, list[Any]]
    rows: list[Row]
    costs: list[Cost]
    same_theory: bool


def compare(runs: Sequence["Run"]) -> Comparison:
    """Lay runs side by side.

    Args:
        runs: at least two, sampled.

    Raises:
        ValueError: for fewer, for one that is there twice, and when a series is too short for an error.
        RunFolderError: when a run has no chain yet.
    """
    paths = [run.path.resolve() for run in runs]
    if len(set(paths)) < 2 or len(set(paths)) < len(paths):
        raise ValueError(f"expected at least two runs, each once, got {', '.join(map(str, paths)) or 'none'}")
    common = os.path.commonpath(paths)
    names = [os.path.relpath(path, common) for path in paths]
    for run in runs:
        run.written()
    verdicts = [validate(run) for run in runs]
    ways = [_way(verdict) for verdict in verdicts]
    tables = [run.config.table() for run in runs]
    keys = {key for table in tables[1:] for key in differing(tables[0], table)} - set(_WORDS)
    order = list(dict.fromkeys(section for table in tables for section in table))
    in_order = sorted(keys, key=lambda key: (order.index(key.partition(".")[0]), key))
    settings = {key: [flat(table).get(key) for table in tables] for key in in_order}
    same = all(table["action"] == tables[0]["action"] for table in tables)
    return Comparison(
        names,
        [way.heading for way in ways],
        settings,
        list(_rows(runs, names, ways, same)),
        [cost for each in zip(runs, names, verdicts, strict=True) for cost in _costs(*each)],
        same,
    )


def _way(verdict: Validation) -> Way:
    """By which a run knows its numbers."""
    found = verdict.way("model") or verdict.way("beside")
    assert found is not None  # there is a chain
    return found


def _rows(runs: Sequence["Run"], names: Sequence[str], ways: Sequence[Way], same: bool) -> Iterator[Row]:
    """Observables that at least two runs have, in the order of the first that has them."""
    observables = {one.name: one for run in runs for one in run.action.observables if one.label}
    for name, observable in observables.items():
        found = {
            run: way.measurements[name]
            for run, way in zip(names, ways, strict=True)
            if name in way.measurements
        }
        if len(found) < 2:
            continue
        told = [run for run, value in found.items() if comparable(observable, value)]
        pulls = {
            (one, other): found[one].pull(found[other].value, found[other].error)
            for one, other in itertools.combinations(told if same else (), 2)
        }
        yield Row(name, observable.label, found, pulls)


def _costs(run: "Run", name: str, verdict: Validation) -> Iterator[Cost]:
    """Of each chain that has begun."""
    words = chain_words(run)
    for chain in CHAINS:
        way, plan = verdict.way(chain), run.settings(chain)
        info = run.sampling_info(chain) if plan is not None else {"steps": 0}
        if way is None or plan is None or not info["steps"]:
            continue
        tau = _slowest(run, way)
        seconds = info["seconds"] / (info["steps"] * plan.chains)
        each = None if tau is None else price(tau[1], seconds)
        yield Cost(name, words[chain].heading, *_of_model(run, chain, verdict), info["acceptance"], tau, each)


def _of_model(run: "Run", chain: Chain, verdict: Validation) -> tuple[float | None, float | None]:
    """The seconds of the training, and the ESS."""
    if chain != "model":
        return None, None
    history = run.history()
    return (history[-1]["seconds"] if history else 0.0), verdict.diagnostics.get("ess")


def _slowest(run: "Run", way: Way) -> tuple[str, Measurement] | None:
    """The largest τ of what the theory calls slow, or of all that it tells."""
    labels = {one.name: one.label for one in run.action.observables if one.label}
    slow = [one.name for one in run.action.observables if one.label and one.slow]
    found = [
        (labels[name], Measurement(m.tau_int, m.tau_int_error or 0.0))
        for name in slow or labels
        if (m := way.measurements.get(name)) is not None and m.tau_int is not None
    ]
    return max(found, key=lambda one: one[1].value, default=None)
