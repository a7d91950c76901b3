"""The plates that every kind of field has, and what plates are put together from."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from latflow.analysis import (
    Measurement,
    autocorrelation,
    effective_sample_size,
    longest_rejection_run,
    measure,
)
from latflow.report import figures
from latflow.report.material import Material, NotYetError, RunLike
from latflow.report.tables import printed
from latflow.storage import load_tree

REMARKABLE_RUN = 100
"""More rejections in a row than this are marked."""

SAMPLES = 6
"""Configurations that are drawn of each source."""

Built = tuple[Figure, str, str]
"""A figure, its alternative text, its caption."""

Builder = Callable[[Material], Built]
"""Draws a plate, or raises what then stands in its place."""


def training(material: Material) -> Built:
    """ESS and F_q against the steps of the training."""
    history = material.history
    if not history:
        raise NotYetError("the training has not begun.")
    last = history[-max(1, len(history) // 25) :]
    ess, f_q = (float(np.mean([record[name] for record in last])) for name in ("ess", "f_q"))
    skipped = sum(bool(record.get("skipped")) for record in history)
    annealed = _annealed(material.run)
    figure = figures.training_history(history, material.exact_free_energy, annealed)
    alt = (
        f"Effective sample size and variational free energy over {len(history)} training steps, against the "
        f"step and against wall time. They end at an ESS of {ess:.3f} and F_q = {minus(f_q, '.4f')}."
    )
    caption = (
        f"Each batch (faint) and the running mean. At the end ESS ≈ {ess:.3f}, F_q ≈ {minus(f_q, '.4f')}. "
        f"F_q lies above F by the Kullback–Leibler divergence of {material.names.model} and target; the "
        "first steps may lie outside its panel."
    )
    if annealed:
        caption += (
            f" In the first {annealed} steps (shaded) the action was weaker: F_q and ESS belong to it there."
        )
    if material.exact_free_energy is not None:
        caption += f" The dashed line is the known F = {minus(material.exact_free_energy, '.7g')}."
    if skipped:
        caption += f" {skipped} of {len(history)} steps were skipped because they were not finite."
    return figure, alt, caption


def weights(material: Material) -> Built:
    """Histogram of the log-weights of the model's draws."""
    model = material.names.model
    log_weight = np.asarray(material.draws()["log_weight"], dtype=np.float64).ravel()
    sound = log_weight[~(np.isnan(log_weight) | np.isposinf(log_weight))]
    deviation, ess = float(sound[np.isfinite(sound)].std()), effective_sample_size(sound)
    figure = figures.log_weight_histogram(sound, material.names.proposals)
    alt = (
        f"Histogram of {sound.size} log-weights of the {model}'s proposals, "
        f"standard deviation {deviation:.3f}."
    )
    caption = (
        f"{sound.size} proposals, σ = {deviation:.3f}, ESS = {ess:.3f}. A perfect {model} has all of them at "
        f"log Z; Gaussian log-weights of this width have ESS = exp(−σ²) = {np.exp(-(deviation**2)):.3f}. A "
        f"tail to the right means configurations that the {model} proposes too rarely."
    )
    if sound.size < log_weight.size:
        caption += f" {log_weight.size - sound.size} log-weights that are nan or infinite are left out."
    return figure, alt, caption


def history(material: Material, shown: Mapping[str, str], what: str) -> Built:
    """Monte Carlo history of the model's chain that stood still for longest.

    Args:
        material: of the run.
        shown: the series of each panel, by its label.
        what: the panels in words, for the alternative text.
    """
    series, names = material.flow, material.names
    if "accepted" not in series:
        raise NotYetError(f"the {names.model} has not been sampled yet.")
    accepted = by_chain(series["accepted"]).astype(bool)
    longest = [longest_rejection_run(chain) for chain in accepted.T]
    chain = int(np.argmax(longest))
    drawn = {axis: by_chain(series[name])[:, chain] for axis, name in shown.items() if name in series}
    marked = sum(len(figures.rejection_runs(one, REMARKABLE_RUN)) for one in accepted.T)
    steps, chains = accepted.shape
    figure = figures.chain_history(drawn, accepted[:, chain], REMARKABLE_RUN, names.chain)
    which = (
        f"Chain {chain + 1} of {chains}, the one that stood still for longest" if chains > 1 else "The chain"
    )
    alt = (
        f"{what} of a {names.chain} against its {steps} steps. "
        f"The longest run of rejections is {longest[chain]} steps."
    )
    caption = (
        f"{which}, over {steps} steps. Longest run of rejections: {longest[chain]}. Runs of more than "
        f"{REMARKABLE_RUN} are shaded; all chains together have {marked or 'none'}. "
    )
    if names.kernels == ("proposals",):
        caption += (
            f"A long run is a configuration that the {names.model} proposes far too rarely, at which the "
            "chain has to wait."
        )
    else:
        caption += f"A step is {names.chain_step}; it counts as rejected where nothing moved."
    return figure, alt, caption


def autocorrelations(
    material: Material, chains: Mapping[str, np.ndarray], symbol: str, tex: str, words: str
) -> Built:
    """Autocorrelation of one observable of the chains.

    Args:
        material: of the run.
        chains: for each source the series.
        symbol: the observable in a sentence, "|M|".
        tex: the same in a figure.
        words: and by its name.
    """
    functions = {source: autocorrelation(series) for source, series in chains.items()}
    tau = {source: measure(series) for source, series in chains.items()}
    found = ", ".join(
        f"τ = {printed(Measurement(m.tau_int or 0.5, m.tau_int_error or 0.0))} for {named([source])}"
        for source, m in tau.items()
    )
    alt = f"Autocorrelation function of {words} with its error band: {found}."
    caption = (
        f"Normalised autocorrelation of {symbol} and its error. τ = ½ + Σ ρ(t) is summed up to the dashed "
        f"line, where the Γ-method balances statistical and systematic error: {found}. {steps_of(material)}."
    )
    return figures.autocorrelation_function(functions, tau, tex), alt, caption


def steps_of(material: Material) -> str:
    """What a step is of each chain, as a sentence."""
    return f"A step is {material.names.chain_step}, or {material.names.beside_step}"


def stored_configurations(material: Material) -> dict[str, np.ndarray]:
    """A few configurations of each source: of the chains, or fresh draws where the model has none."""
    run, names = material.run, material.names
    ways = {names.chain: ("flow", material.flow), names.beside_chain: (names.group, material.beside)}
    found = {source: _stored(run, name, series) for source, (name, series) in ways.items()}
    rows = {source: x for source, x in found.items() if x is not None}
    return rows if names.chain in rows else {names.proposals: _fresh(run), **rows}


def missing_chain(material: Material, chains: Iterable[str]) -> str:
    """A sentence for a comparison that one chain is missing from; empty where none is."""
    names, there = material.names, list(chains)
    if len(there) != 1:
        return ""
    missing = names.sentence if names.beside_chain not in there else f"the {names.model}"
    return f" {missing[0].upper()}{missing[1:]} has not been sampled, so there is no comparison."


def fresh_draws(material: Material, rows: Iterable[str]) -> str:
    """A sentence where configurations are draws that no chain has seen."""
    if material.names.proposals not in rows:
        return ""
    return f" Proposals are fresh draws from the trained {material.names.model}, before accept or reject."


def named(sources: Iterable[str]) -> str:
    """The sources in a sentence: the flow chain and HMC."""
    *first, last = (source if source == "HMC" else f"the {source}" for source in sources)
    return f"{', '.join(first)} and {last}" if first else last


def minus(number: float, form: str) -> str:
    """A number with a true minus sign."""
    return f"{number:{form}}".replace("-", "−")


def by_chain(series: np.ndarray) -> np.ndarray:
    """(steps, chains)."""
    return np.asarray(series).reshape(len(series), -1)


def with_chains(series: np.ndarray) -> np.ndarray:
    """(steps, chains, times)."""
    return np.asarray(series).reshape(len(series), -1, np.shape(series)[-1])


def _annealed(run: RunLike) -> int:
    """The steps that were trained for a weaker action."""
    anneal = getattr(run.config.training, "anneal", None)
    return 0 if anneal is None else anneal.steps


def _stored(run: RunLike, name: str, series: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """A few configurations (number, *lattice): from all over the history where it is kept, or its end."""
    if "field" in series:
        steps, chains = series["field"].shape[:2]
        picked = np.linspace(0, steps - 1, min(SAMPLES, steps)).astype(int)
        return np.stack([np.asarray(series["field"][step, i % chains]) for i, step in enumerate(picked)])
    checkpoint = run.checkpoint(name)
    if not series or not checkpoint.exists():
        return None
    state = load_tree(checkpoint)["state"]
    # of HMC through a flow x is latent
    return state.get("field", state["x"])[:SAMPLES].double().numpy()


def _fresh(run: RunLike) -> np.ndarray:
    """Draws from the trained density, always the same ones."""
    flow = run.flow()
    device = next(flow.parameters()).device
    with torch.no_grad():
        x, _ = flow.sample(SAMPLES, torch.Generator(device).manual_seed(0))
    return x.double().cpu().numpy()
