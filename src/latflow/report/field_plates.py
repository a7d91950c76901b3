"""The plates of correlators in time and of sample configurations."""

import numpy as np
import torch
from torch import Tensor

from latflow import figures
from latflow.analysis import derive_vector, effective_masses
from latflow.densities import draws
from latflow.observables.base import Observable, observing
from latflow.report.chain_plates import is_whole
from latflow.report.material import PROPOSALS, Material, NotYetError
from latflow.report.phrases import capital, fresh_draws, missing_chain, named
from latflow.report.plate import Built
from latflow.runs.sampling import joined
from latflow.storage import load_tree
from latflow.validation.words import Chain

SAMPLES = 6
"""Configurations that are drawn of each source."""


def correlator(material: Material, observable: Observable) -> Built:
    """A correlator in time with its effective masses."""
    chains = {source: _with_chains(c) for source, c in material.one(observable.name).items()}
    correlators = {
        source: derive_vector(lambda c: c, c, factor=material.factor(source)) for source, c in chains.items()
    }
    masses = {
        source: effective_masses(c, factor=material.factor(source))
        for source, c in chains.items()
        if c.shape[-1] >= 3
    }
    exact = material.action.known_series(observable.name)
    what = title_of(observable)
    figure = figures.two_point_function(correlators, masses, exact, what=what)
    sources = named(correlators) + ("" if exact is None else ", with the exact result")
    alt = f"{what} at zero momentum and its effective mass, from {sources}."
    meaning = f" {observable.meaning}" if observable.meaning else ""
    caption = (
        f"From {sources}.{meaning} The effective mass is arccosh[(C(t−1) + C(t+1)) / 2C(t)], constant where "
        "one state dominates."
    )
    return figure, alt, caption + missing_chain(material, correlators)


def title_of(observable: Observable) -> str:
    """A correlator as a heading: "Two-point correlator" for "two_point"."""
    return f"{capital(observable.name.replace('_', '-'))} correlator"


def configurations(material: Material) -> Built:
    """Sample configurations of each source, as their kind of field draws itself."""
    kind, lattice = material.action.kind, tuple(material.action.lattice)
    picture, fields = kind.picture, stored_configurations(material)
    numbers = {source: picture.numbers(x) for source, x in fields.items()}
    if any(tuple(x.shape[1:]) != lattice for x in numbers.values()):
        raise NotYetError(f"fields of the kind {kind} have no picture with one number a site.")
    figure = figures.configurations(
        {source: x.numpy() for source, x in numbers.items()},
        SAMPLES,
        picture.symbol,
        values=picture.values,
        cyclic=picture.cyclic,
        notes=_notes(material, fields),
    )
    zero = " = ".join(f"x{_subscript(axis)}" for axis in range(len(lattice) - 2))
    what = {1: "lines", 2: "images"}.get(len(lattice), f"slices {zero} = 0")
    alt = f"Sample configurations as {what}: a row for {named(fields)}."
    scale = "The colours close into a circle, as the angles do." if picture.cyclic else ""
    caption = f"{capital(picture.words)}, of {named(fields)}: {what}, all on one scale. {scale}".rstrip()
    return figure, alt, caption + fresh_draws(fields)


def stored_configurations(material: Material) -> dict[str, Tensor]:
    """A few configurations of each source: of the chains, and fresh draws where the model's has none.

    Raises:
        NotYetError: when there are none at all.
    """
    found = {source: _stored(material, chain) for chain, source in material.sources.items()}
    if material.sources.get("model") is None or found[material.sources["model"]] is None:
        found = {PROPOSALS: _fresh(material), **found}
    rows: dict[str, Tensor] = {source: x for source, x in found.items() if x is not None}
    if not rows:
        raise NotYetError("the training has not begun, and no chain has been sampled yet.")
    return rows


def _stored(material: Material, chain: Chain) -> Tensor | None:
    """A few configurations (number, …): from all over the history where it is kept, or its end."""
    series = material.series[chain]
    if "field" in series:
        steps, chains = series["field"].shape[:2]
        picked = np.linspace(0, steps - 1, min(SAMPLES, steps)).astype(int)
        stored = [series["field"][step, i % chains] for i, step in enumerate(picked)]
        return torch.from_numpy(np.stack(stored)).double()
    if chain == "ensemble":
        return None
    run = material.run
    checkpoint, settings = run.checkpoint(chain), run.settings(chain)
    if not series or settings is None or not checkpoint.exists():
        return None
    sampler = joined(run.samplers(chain), settings.repeats)
    # the state may be that of other variables, or of a sampler that keeps more than the field
    state = sampler.state_from_dict(load_tree(checkpoint)["state"])
    return sampler.field(state)[:SAMPLES].double().cpu()


def _fresh(material: Material) -> Tensor | None:
    """Draws of the trained model, always the same ones; None before the training."""
    if not material.with_model or not (run := material.run).checkpoint("best").exists():
        return None
    generator = torch.Generator(run.device).manual_seed(0)
    return draws(run.model("best"), SAMPLES, run.action, generator).x.double().cpu()


def _notes(material: Material, fields: dict[str, Tensor]) -> dict[str, list[str]]:
    """The whole numbers by which configurations lie in sectors, such as the topological charge."""
    shown = [one for one in material.action.observables if one.sectors and is_whole(one) and one.function]
    if not shown:
        return {}
    observe = observing(shown)
    return {
        source: [
            ", ".join(_number(one.in_figures, record[one.name][i]) for one in shown) for i in range(len(x))
        ]
        for source, x in fields.items()
        for record in [{name: values.tolist() for name, values in observe(x).items()}]
    }


def _number(symbol: str, value: float) -> str:
    return f"{symbol} = {value:+.0f}".replace("-", "−") if value else f"{symbol} = 0"


def _subscript(digit: int) -> str:
    return chr(ord("₀") + digit)


def _with_chains(series: np.ndarray) -> np.ndarray:
    """(steps, chains, times)."""
    return np.asarray(series).reshape(len(series), -1, np.shape(series)[-1])
