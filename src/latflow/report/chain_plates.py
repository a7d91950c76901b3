"""The plates of the Markov chains: their histories, and how long they remember."""

from collections.abc import Mapping

import numpy as np

from latflow import figures
from latflow.analysis import autocorrelation, longest_rejection_run, measure, tunnelling_rate
from latflow.measurement import Measurement
from latflow.observables.base import Observable, Sectors
from latflow.report.distribution_plates import has_distribution
from latflow.report.material import Material, NotYetError, by_chain
from latflow.report.phrases import capital, listed, steps_of, visits
from latflow.report.plate import Built
from latflow.report.tables import printed
from latflow.validation.sectors import visited

REMARKABLE_RUN = 100
"""More rejections in a row than this are marked."""

_MOST_NAMES = 6
"""Sectors whose names have room on an axis."""

_ACTION = Observable("action", symbol="S", tex="$S$")
_LOG_WEIGHT = Observable("log_weight", symbol="log w", tex=r"$\log w$")


def history(material: Material) -> Built:
    """Monte Carlo history of the model's chain that stood still for longest; without a model of the other."""
    name = material.first
    series, words, source = material.series[name], material.words[name], material.sources[name]
    if "accepted" not in series:
        who = "the model" if name == "model" else words.sentence
        raise NotYetError(f"{who} has not been sampled yet.")
    shown = _of_history(material, series)
    accepted = by_chain(series["accepted"]).astype(bool)
    longest = [longest_rejection_run(chain) for chain in accepted.T]
    chain = int(np.argmax(longest))
    drawn = {one.in_figures: by_chain(series[one.name])[:, chain] for one in shown}
    marked = sum(len(figures.rejection_runs(one, REMARKABLE_RUN)) for one in accepted.T)
    steps, chains = accepted.shape
    figure = figures.chain_history(drawn, accepted[:, chain], REMARKABLE_RUN, source)
    alt = (
        f"{capital(listed(one.in_words for one in shown))} of {words.sentence} against its {steps} steps. "
        f"The longest run of rejections is {longest[chain]} steps."
    )
    which = (
        f"Chain {chain + 1} of {chains}, the one that stood still for longest" if chains > 1 else "The chain"
    )
    caption = (
        f"{which}, over {steps} steps. Longest run of rejections: {longest[chain]}. Runs of more than "
        f"{REMARKABLE_RUN} are shaded; all chains together have {marked or 'none'}. "
    )
    if words.alone:
        caption += (
            "A long run is a configuration that the model proposes far too rarely, at which the chain has to "
            "wait."
        )
    else:
        caption += f"A step is {words.step}; it counts as rejected where nothing moved."
    # what has a figure of its distribution is explained there
    meanings = [one.meaning for one in shown if not has_distribution(one)]
    return figure, alt, " ".join([caption, *filter(None, meanings)])


def _of_history(material: Material, series: Mapping[str, np.ndarray]) -> list[Observable]:
    """What is drawn of each step: what the theory wants to be seen, or the action, and the weight."""
    of_theory = [one for one in material.action.observables if "history" in one.shown]
    return [one for one in (*(of_theory or [_ACTION]), _LOG_WEIGHT) if one.name in series]


def sector_history(material: Material, observable: Observable, sectors: Sectors) -> Built:
    """In which sector one chain of each source is, by a whole number that tells it or by the sector alone."""
    found = {source: by_chain(values) for source, values in material.one(observable.name).items()}
    if is_whole(observable):
        what, chains, names = observable.in_figures, found, None
    else:
        what, chains = sectors.title, {source: visited(sectors, values) for source, values in found.items()}
        numbers = range(int(max(values.max() for values in chains.values())) + 1)
        names = {n: sectors.name(n) for n in numbers} if len(numbers) <= _MOST_NAMES else None
    rates = {source: tunnelling_rate(values) for source, values in chains.items()}
    figure = figures.sector_history({name: x[:, 0] for name, x in chains.items()}, rates, what, names)
    shares = listed(f"{printed(rate)} of the {source}" for source, rate in rates.items())
    name = observable.in_words if is_whole(observable) else f"The number of the sector among the {what}"
    alt = f"{capital(name)} against the step. It changes at a share of the steps of {shares}."
    subject = f"{capital(name)} of one chain" if is_whole(observable) else f"The {what} in which one chain"
    subject += " of each." if is_whole(observable) else " of each is."
    caption = (
        f"{subject} It changes at a share of all steps of {shares}; rejected steps count. "
        f"{steps_of(material)} These rates belong to the samplers, not to the theory, and need not agree."
    )
    if not has_distribution(observable):
        caption += visits(observable, found)
    return figure, alt, caption


def is_whole(observable: Observable) -> bool:
    """Whether it takes whole numbers, which tell more than those of sectors do: the topological charge."""
    return observable.spacing == 1


def autocorrelation_of(material: Material, observable: Observable) -> Built:
    """Autocorrelation of one observable of the chains."""
    chains = {
        source: by_chain(series[0] if observable.each is None else observable.each(*series))
        for source, series in material.chains(*observable.needs).items()
    }
    functions = {source: autocorrelation(series) for source, series in chains.items()}
    tau = {source: measure(series) for source, series in chains.items()}
    found = ", ".join(
        f"τ = {printed(Measurement(m.tau_int or 0.5, m.tau_int_error or 0.0))} for the {source}"
        for source, m in tau.items()
    )
    symbol = observable.in_words
    alt = f"Autocorrelation function of {symbol} with its error band: {found}."
    caption = (
        f"Normalised autocorrelation of {symbol} and its error. τ = ½ + Σ ρ(t) is summed up to the dashed "
        f"line, where the Γ-method balances statistical and systematic error: {found}. {steps_of(material)}"
    )
    return figures.autocorrelation_function(functions, tau, observable.in_figures), alt, caption


def slow_ones(observables: tuple[Observable, ...]) -> list[Observable]:
    """The observables whose autocorrelation is drawn, the first of them the headline: the action at least."""
    slow = [one for one in observables if one.slow and one.average is None and one.estimate is None]
    return slow or [_ACTION]
