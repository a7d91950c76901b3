"""The figures of one run, each with the words that belong to it, or the reason why it cannot be drawn yet."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from latflow.actions import Action, HoppingPhi4, Phi4
from latflow.analysis import (
    Measurement,
    autocorrelation,
    derive_vector,
    effective_masses,
    effective_sample_size,
    longest_rejection_run,
    measure,
)
from latflow.errors import LatflowError
from latflow.exact import free_field_two_point
from latflow.report import field_figures, figures
from latflow.report.material import Material, NotYetError, Plate, RunLike
from latflow.report.tables import printed
from latflow.storage import load_tree

REMARKABLE_RUN = 100
"""More rejections in a row than this are marked."""

_SAMPLES = 6

_Built = tuple[Figure, str, str]
"""A figure, its alternative text, its caption."""


def plates(material: Material) -> list[Plate]:
    """All figures of the page, in its order; those that cannot be drawn say why."""
    drawn = []
    for name, (title, build) in _PLATES.items():
        try:
            figure, alt, caption = build(material)
        except (LatflowError, ValueError) as error:
            drawn.append(Plate(name, title, None, "", f"No figure: {error}"))
        else:
            drawn.append(Plate(name, title, figure, alt, caption))
    return drawn


def _training(material: Material) -> _Built:
    history = material.history
    if not history:
        raise NotYetError("the training has not begun.")
    last = history[-max(1, len(history) // 25) :]
    ess, f_q = (float(np.mean([record[name] for record in last])) for name in ("ess", "f_q"))
    skipped = sum(bool(record.get("skipped")) for record in history)
    figure = figures.training_history(history, material.exact_free_energy)
    alt = (
        f"Effective sample size and variational free energy over {len(history)} training steps, against the "
        f"step and against wall time. They end at an ESS of {ess:.3f} and F_q = {_minus(f_q, '.4f')}."
    )
    caption = (
        f"Each batch (faint) and the running mean. At the end ESS ≈ {ess:.3f}, F_q ≈ {_minus(f_q, '.4f')}. "
        "F_q lies above F by the Kullback–Leibler divergence of flow and target; the first steps may lie "
        "outside its panel."
    )
    if material.exact_free_energy is not None:
        caption += f" The dashed line is the known F = {_minus(material.exact_free_energy, '.7g')}."
    if skipped:
        caption += f" {skipped} of {len(history)} steps were skipped because they were not finite."
    return figure, alt, caption


def _weights(material: Material) -> _Built:
    if "log_weight" not in material.proposals:
        raise NotYetError("the flow has not been sampled yet.")
    log_weight = np.asarray(material.proposals["log_weight"], dtype=np.float64).ravel()
    sound = log_weight[~(np.isnan(log_weight) | np.isposinf(log_weight))]
    deviation, ess = float(sound[np.isfinite(sound)].std()), effective_sample_size(sound)
    figure = figures.log_weight_histogram(sound)
    alt = (
        f"Histogram of {sound.size} log-weights of the flow's proposals, standard deviation {deviation:.3f}."
    )
    caption = (
        f"{sound.size} proposals, σ = {deviation:.3f}, ESS = {ess:.3f}. A perfect flow has all of them at "
        f"log Z; Gaussian log-weights of this width have ESS = exp(−σ²) = {np.exp(-(deviation**2)):.3f}. A "
        "tail to the right means configurations that the flow proposes too rarely."
    )
    if sound.size < log_weight.size:
        caption += f" {log_weight.size - sound.size} log-weights that are nan or infinite are left out."
    return figure, alt, caption


def _history(material: Material) -> _Built:
    series = material.flow
    if "accepted" not in series:
        raise NotYetError("the flow has not been sampled yet.")
    accepted = _by_chain(series["accepted"]).astype(bool)
    longest = [longest_rejection_run(chain) for chain in accepted.T]
    chain = int(np.argmax(longest))
    shown = {r"$M$": "magnetization", r"$\log w$": "log_weight"}
    drawn = {axis: _by_chain(series[name])[:, chain] for axis, name in shown.items() if name in series}
    marked = sum(len(figures.rejection_runs(one, REMARKABLE_RUN)) for one in accepted.T)
    steps, chains = accepted.shape
    figure = figures.chain_history(drawn, accepted[:, chain], REMARKABLE_RUN)
    which = (
        f"Chain {chain + 1} of {chains}, the one that stood still for longest" if chains > 1 else "The chain"
    )
    alt = (
        f"Magnetisation and log-weight of a flow chain against its {steps} steps. "
        f"The longest run of rejections is {longest[chain]} steps."
    )
    caption = (
        f"{which}, over {steps} steps. Longest run of rejections: {longest[chain]}. Runs of more than "
        f"{REMARKABLE_RUN} are shaded; all chains together have {marked or 'none'}. A long run is a "
        "configuration that the flow proposes far too rarely, at which the chain has to wait."
    )
    return figure, alt, caption


def _autocorrelation(material: Material) -> _Built:
    chains = {source: np.abs(m) for source, m in material.chains("magnetization").items()}
    functions = {source: autocorrelation(series) for source, series in chains.items()}
    tau = {source: measure(series) for source, series in chains.items()}
    found = ", ".join(
        f"τ = {printed(Measurement(m.tau_int or 0.5, m.tau_int_error or 0.0))} for {_named([source])}"
        for source, m in tau.items()
    )
    alt = f"Autocorrelation function of the absolute magnetisation with its error band: {found}."
    caption = (
        "Normalised autocorrelation of |M| and its error. τ = ½ + Σ ρ(t) is summed up to the dashed line, "
        f"where the Γ-method balances statistical and systematic error: {found}. A step is one proposal of "
        "the flow, or one trajectory of HMC."
    )
    return figures.autocorrelation_function(functions, tau), alt, caption


def _two_point(material: Material) -> _Built:
    series = {source: _with_chains(c) for source, c in material.chains("two_point").items()}
    correlators = {source: derive_vector(lambda c: c, c) for source, c in series.items()}
    masses = {source: effective_masses(c) for source, c in series.items() if c.shape[-1] >= 3}
    exact = _exact_two_point(material.run.action)
    figure = field_figures.two_point_function(correlators, masses, exact)
    sources = _named(correlators) + ("" if exact is None else ", with the exact result")
    alt = f"Zero-momentum two-point function and effective mass, from {sources}."
    caption = (
        f"C(t) = Σ_x⃗ ⟨φ(0,0) φ(t,x⃗)⟩ along direction 0, from {sources}. Neighbouring times are correlated, "
        "so several pulls of one sign are no surprise. The effective mass is "
        "arccosh[(C(t−1) + C(t+1)) / 2C(t)]."
    )
    if len(correlators) == 1:
        missing = "HMC" if "HMC" not in correlators else "The flow"
        caption += f" {missing} has not been sampled, so there is no comparison."
    return figure, alt, caption


def _magnetization(material: Material) -> _Built:
    chains = material.chains("magnetization")
    positive = " and ".join(f"{np.mean(m > 0):.1%} of {_named([source])}" for source, m in chains.items())
    alt = f"Histogram of the magnetisation. M is positive in {positive}."
    caption = f"M = V⁻¹ Σ φ is positive in {positive}."
    if material.run.action.z2_symmetric:
        caption += (
            " The action is even, so both signs are equally probable; a flow that has collapsed into one of "
            "them shows half of the distribution."
        )
    return field_figures.magnetization_histogram(chains), alt, caption


def _configurations(material: Material) -> _Built:
    run = material.run
    ways = {"flow chain": ("flow", material.flow), "HMC": ("hmc", material.hmc)}
    found = {source: _stored(run, name, series) for source, (name, series) in ways.items()}
    rows = {source: x for source, x in found.items() if x is not None}
    if "flow chain" not in rows:
        rows = {"flow proposals": _fresh(run), **rows}
    dimensions = next(iter(rows.values())).ndim - 1
    what = {1: "lines", 2: "images", 3: "slices x₀ = 0"}[dimensions]
    alt = f"Sample configurations as {what}: a row for {_named(rows)}."
    caption = f"The field φ of {_named(rows)}: {what}, all on one scale."
    if "flow proposals" in rows:
        caption += " Proposals are fresh draws from the trained flow, before accept or reject."
    return field_figures.configurations(rows, columns=_SAMPLES), alt, caption


_PLATES: dict[str, tuple[str, Callable[[Material], _Built]]] = {
    "training": ("Training", _training),
    "log_weights": ("Weights of the proposals", _weights),
    "history": ("Monte Carlo history", _history),
    "autocorrelation": ("Autocorrelation", _autocorrelation),
    "two_point": ("Two-point function", _two_point),
    "magnetization": ("Magnetisation", _magnetization),
    "configurations": ("Configurations", _configurations),
}


def _named(sources: Iterable[str]) -> str:
    """The sources in a sentence: the flow chain and HMC."""
    return " and ".join(source if source == "HMC" else f"the {source}" for source in sources)


def _minus(number: float, form: str) -> str:
    """A number with a true minus sign."""
    return f"{number:{form}}".replace("-", "−")


def _by_chain(series: np.ndarray) -> np.ndarray:
    """(steps, chains)."""
    return np.asarray(series).reshape(len(series), -1)


def _with_chains(series: np.ndarray) -> np.ndarray:
    """(steps, chains, times)."""
    return np.asarray(series).reshape(len(series), -1, np.shape(series)[-1])


def _stored(run: RunLike, name: str, series: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """A few configurations (number, *lattice): from all over the history where it is kept, or its end."""
    if "field" in series:
        steps, chains = series["field"].shape[:2]
        picked = np.linspace(0, steps - 1, min(_SAMPLES, steps)).astype(int)
        return np.stack([np.asarray(series["field"][step, i % chains]) for i, step in enumerate(picked)])
    checkpoint = run.checkpoint(name)
    if not series or not checkpoint.exists():
        return None
    return load_tree(checkpoint)["state"]["x"][:_SAMPLES].double().numpy()


def _fresh(run: RunLike) -> np.ndarray:
    """Draws from the trained flow, always the same ones."""
    flow = run.flow()
    device = next(flow.parameters()).device
    with torch.no_grad():
        x, _ = flow.sample(_SAMPLES, torch.Generator(device).manual_seed(0))
    return x.double().cpu().numpy()


def _exact_two_point(action: Action) -> np.ndarray | None:
    """C(t) of the free field."""
    scale = 1.0
    if isinstance(action, HoppingPhi4) and action.beta > 0:
        action, scale = action.to_phi4()
    if isinstance(action, Phi4) and action.lam == 0 and action.m2 > 0:
        return free_field_two_point(action.lattice, action.m2) / scale**2
    return None
