"""Parts of the sentences below the figures."""

from collections.abc import Iterable, Mapping

import numpy as np

from latflow.observables.base import Observable
from latflow.report.material import PROPOSALS, Material, by_chain
from latflow.validation.words import Chain


def named(sources: Iterable[str]) -> str:
    """The sources in a sentence: the model's chain and the HMC chain."""
    return listed([f"the {source}" for source in sources])


def listed(parts: Iterable[str]) -> str:
    """a, b and c."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def capital(text: str) -> str:
    """The text with a capital at its beginning; a symbol such as ξ stays what it is."""
    return text[:1].upper() + text[1:] if text[:1].isascii() else text


def minus(number: float, form: str) -> str:
    """A number with a true minus sign."""
    return f"{number:{form}}".replace("-", "−")


def steps_of(material: Material) -> str:
    """What a step is of each chain, as a sentence."""
    steps = dict.fromkeys(words.step for words in material.words.values())
    return f"A step is {', or '.join(steps)}."


def missing_chain(material: Material, there: Iterable[str]) -> str:
    """A sentence for a comparison that one chain is missing from; empty where none is."""
    missing: list[Chain] = [chain for chain, source in material.sources.items() if source not in list(there)]
    if not missing:
        return ""
    what = "the model" if missing == ["model"] else material.words[missing[0]].sentence
    return f" {capital(what)} has not been sampled, so there is no comparison."


def fresh_draws(rows: Iterable[str]) -> str:
    """A sentence where configurations are draws that no chain has seen."""
    if PROPOSALS not in list(rows):
        return ""
    return " Proposals are fresh draws of the trained model, before accept or reject."


def visits(observable: Observable, chains: Mapping[str, np.ndarray]) -> str:
    """How many chains of each source have been in all sectors that a symmetry relates."""
    sectors = observable.sectors
    if sectors is None or sectors.equal is None:
        return ""
    found = []
    for source, series in chains.items():
        number = sectors.number(by_chain(series))
        all_of_them = np.all([(number == n).any(0) for n in range(sectors.equal)], axis=0)
        found.append(f"{int(all_of_them.sum())} of {number.shape[1]} in the {source}")
    names = listed(map(sectors.name, range(sectors.equal)))
    return f" Chains that have been in all {sectors.title} ({names}): {', '.join(found)}."
