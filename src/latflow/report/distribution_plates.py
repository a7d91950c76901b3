"""The plates of distributions over configurations, of what takes few values and of what takes many."""

import numpy as np

from latflow import figures
from latflow.analysis import measure
from latflow.observables.base import Observable
from latflow.report.material import PROPOSALS, Material, by_chain
from latflow.report.phrases import listed, named, visits
from latflow.report.plate import Built
from latflow.report.tables import printed
from latflow.theories import Action

_LEAST_SHARE = 1e-6
"""Values rarer than this are not drawn where they are not seen either."""

_FEW = 60
"""So many values have room side by side."""

_MOST_VALUES = 10_000


def has_distribution(observable: Observable) -> bool:
    """Whether there is a figure of it: a histogram, or the values that are multiples of a number."""
    return observable.spacing is not None or "histogram" in observable.shown


def distribution(material: Material, observable: Observable) -> Built:
    """The probabilities of a few values, or a histogram."""
    chains = material.one(observable.name)
    if "histogram" in observable.shown or observable.spacing is None:
        return _histogram(material, observable, chains)
    values = _grid(list(chains.values()), observable.spacing)
    if len(values) > _FEW:
        return _histogram(material, observable, chains)
    return _probabilities(material, observable, chains)


def _histogram(material: Material, observable: Observable, chains: dict[str, np.ndarray]) -> Built:
    action, symbol = material.action, observable.in_words
    exact = None
    if observable.spacing is not None:
        exact = _exact(action, observable, list(chains.values()), observable.spacing)
    average = None if observable.odd else material.known.get(observable.name)
    averages = {source: measure(by_chain(x), factor=material.factor(source)) for source, x in chains.items()}
    if observable.odd:
        shares = {source: f"{np.mean(x > 0):.1%}" for source, x in chains.items()}
        notes = {source: f"{share} with {observable.in_figures} > 0" for source, share in shares.items()}
        found = listed(f"{share} of the {source}" for source, share in shares.items())
        words = f"{symbol} is positive in {found}."
    else:
        notes = {source: str(m) for source, m in averages.items()}
        found = listed(f"{printed(m)} from the {source}" for source, m in averages.items())
        words = f"Averages: {found}."
    figure = figures.histogram(
        chains,
        observable.in_figures,
        notes=notes,
        average=None if average is None else average.value,
        exact=exact,
        spacing=observable.spacing,
        odd=observable.odd,
    )
    caption = f"{symbol} of each configuration. {words}"
    if average is not None:
        caption += f" The dashed line is the known average, {printed(average)}."
    if exact is not None:
        caption += " The black line is the exact distribution."
    if observable.odd and action.z2_symmetric:
        caption += (
            " The action is even, so both signs are equally probable; a model that has collapsed into one of "
            "them shows half of the distribution."
        )
    caption += visits(observable, chains) + _meaning(observable) + _unweighted(material)
    return figure, f"Histogram of {symbol}. {words}", caption


def _probabilities(material: Material, observable: Observable, chains: dict[str, np.ndarray]) -> Built:
    symbol, spacing = observable.in_words, observable.spacing or 1.0
    sources = dict(chains)
    if observable.name in material.proposals:
        sources[PROPOSALS] = material.proposals[observable.name]
    values = _grid(list(sources.values()), spacing)
    found = _exact(material.action, observable, list(sources.values()), spacing)
    exact = (
        None
        if found is None
        else {float(v): float(p) for v, p in zip(*found, strict=True) if p > _LEAST_SHARE}
    )
    shares = {
        source: {float(v): measure((np.abs(by_chain(x) - v) < spacing / 2).astype(float)) for v in values}
        for source, x in sources.items()
    }
    figure = figures.probabilities(shares, exact, observable.in_figures)
    alt = f"Probability of each value of {symbol} on a logarithmic scale, from {named(sources)}."
    highest = f"{np.abs(values).max():g}"
    caption = (
        f"P({symbol}) from {named(sources)}" + (", and exact (black)" if exact else "") + f". The largest "
        f"|{symbol}| that was seen is {highest}; values that a source has never seen have no mark."
    )
    if PROPOSALS in sources:
        caption += " Proposals count without their weights."
        if material.words["model"].alone:
            caption += " A sector that they lack is lost to the chain."
    caption += visits(observable, chains) + _meaning(observable) + _unweighted(material)
    return figure, alt, caption


def _grid(samples: list[np.ndarray], spacing: float, margin: int = 0) -> np.ndarray:
    """All values from the lowest to the highest that were seen; as far down as up where both signs were."""
    low = min(int(np.rint(x.min() / spacing)) for x in samples)
    high = max(int(np.rint(x.max() / spacing)) for x in samples) + margin
    low = -max(-low + margin, high) if low < 0 else 0
    return np.arange(low, (max(high, -low) if low < 0 else high) + 1) * spacing


def _exact(
    action: Action, observable: Observable, samples: list[np.ndarray], spacing: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The values that carry all probability, and the exact probability of each; None where it is unknown."""
    margin = 0
    while True:
        values = _grid(samples, spacing, margin)
        probabilities = action.probability(observable.name, values)
        if probabilities is None:
            return None
        if np.sum(probabilities) > 1 - 1e-9 or len(values) > _MOST_VALUES:
            return values, np.asarray(probabilities, dtype=np.float64)
        margin = 2 * margin + 1


def _meaning(observable: Observable) -> str:
    return f" {observable.meaning}" if observable.meaning else ""


def _unweighted(material: Material) -> str:
    """Where averages are reweighted, a distribution is not."""
    name = material.action.reweighting
    if name is None:
        return ""
    label = next((one.label for one in material.action.observables if one.name == name and one.label), name)
    return f" Signs are not counted here ({label}); averages in the tables are reweighted with them."
