"""The plates of the training and of the weights of the model's draws."""

import numpy as np

from latflow import figures
from latflow.analysis import effective_sample_size
from latflow.estimators import ESTIMATORS
from latflow.observables.base import Observable, Sectors
from latflow.report.material import PROPOSALS, Material, NotYetError
from latflow.report.phrases import capital, minus
from latflow.report.plate import Built

_OF_DRAWS = (
    "F_q lies above F by the Kullback–Leibler divergence of model and target; the first steps may lie "
    "outside its panel."
)
_OF_TARGET = (
    "Both run over the given configurations, not over draws of the model: F_q lies below F by the "
    "Kullback–Leibler divergence of target and model, and rises; where it passes F, the model has learnt "
    "these configurations by heart. The first steps may lie outside its panel."
)

_FEWEST_SECTORS = 4
"""Of the lowest sectors so many are drawn, and as many as a symmetry relates."""


def training(material: Material) -> Built:
    """ESS and F_q against the steps of the training."""
    history = material.history
    if not history:
        steps = material.run.config.training.steps
        raise NotYetError("the training has not begun." if steps else "the model was not trained.")
    last = history[-max(1, len(history) // 25) :]
    ess, f_q = (float(np.mean([record[name] for record in last])) for name in ("ess", "f_q"))
    skipped = sum(bool(record.get("skipped")) for record in history)
    training, exact = material.run.config.training, material.exact_free_energy
    annealed = 0 if training.anneal is None else training.anneal.steps
    curriculum = training.curriculum
    smaller = 0 if curriculum is None else sum(curriculum.steps)
    figure = figures.training_history(history, exact, max(annealed, smaller))
    alt = (
        f"Effective sample size and variational free energy over {len(history)} training steps, against the "
        f"step and against wall time. They end at an ESS of {ess:.3f} and F_q = {minus(f_q, '.4f')}."
    )
    caption = (
        f"Each batch (faint) and the running mean. At the end ESS ≈ {ess:.3f}, F_q ≈ {minus(f_q, '.4f')}. "
        f"{_OF_TARGET if ESTIMATORS[training.estimator].of_target else _OF_DRAWS}"
    )
    if annealed:
        caption += (
            f" In the first {annealed} steps (shaded) the action was weaker: F_q and ESS belong to it there."
        )
    if curriculum is not None:
        lattices = ", ".join("×".join(map(str, lattice)) for lattice in curriculum.lattices)
        caption += f" The first {smaller} steps (shaded) were made on smaller lattices: {lattices}."
    if exact is not None:
        caption += f" The dashed line is the known F = {minus(exact, '.7g')}."
    if skipped:
        caption += f" {skipped} of {len(history)} steps were skipped because they were not finite."
    return figure, alt, caption


def weights(material: Material) -> Built:
    """Histogram of the log-weights of the model's draws."""
    log_weight = np.asarray(material.draws()["log_weight"], dtype=np.float64).ravel()
    sound = log_weight[_sound(log_weight)]
    deviation, ess = float(sound[np.isfinite(sound)].std()), effective_sample_size(sound)
    figure = figures.log_weight_histogram(sound, PROPOSALS)
    alt = f"Histogram of {sound.size} log-weights of the {PROPOSALS}, standard deviation {deviation:.3f}."
    caption = (
        f"{sound.size} proposals, σ = {deviation:.3f}, ESS = {ess:.3f}. A perfect model has all of them at "
        f"log Z; Gaussian log-weights of this width have ESS = exp(−σ²) = {np.exp(-(deviation**2)):.3f}. A "
        "tail to the right means configurations that the model proposes too rarely."
    )
    if sound.size < log_weight.size:
        caption += f" {log_weight.size - sound.size} log-weights that are nan or infinite are left out."
    return figure, alt, caption


def sector_weights(material: Material, observable: Observable, sectors: Sectors) -> Built:
    """Histograms of the log-weights within each sector."""
    draws = material.draws()
    if observable.name not in draws:
        raise NotYetError(f"{observable.in_words} of the proposals was not recorded.")
    log_weight, values = draws["log_weight"].ravel(), draws[observable.name].ravel()
    sound = _sound(log_weight)
    number = sectors.number(values[sound])
    figure = figures.sector_weights(
        log_weight[sound], number, sectors.name, sectors.title, max(_FEWEST_SECTORS, sectors.equal or 0)
    )
    highest = sectors.name(int(number.max()))
    alt = f"Histograms of the log-weights of {sound.sum()} proposals, one for each of the {sectors.title}."
    caption = (
        f"{capital(PROPOSALS)} by their {sectors.title}. Within a sector the ESS tells how well the model "
        "knows it; a share of the weight far above the share of the draws means a sector that the model "
        f"proposes too rarely. The last sector proposed is {highest}."
    )
    return figure, alt, caption


def _sound(log_weight: np.ndarray) -> np.ndarray:
    """Which log-weights are weights."""
    return ~(np.isnan(log_weight) | np.isposinf(log_weight))
