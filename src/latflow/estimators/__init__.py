"""Estimators of the gradient of F_q, all with one signature.

With δ = ∂_θ log q and s = log q + S, the variational free energy F_q = E_q[s] has the gradient E_q[δ s]. An
estimator is called as `estimator(density, action, n, generator) -> Estimate`, and `loss.backward()` leaves
its estimate of the gradient from n draws in the parameters. Source of g1, g2, g3: Białas, Korcyl, Stebel,
Gradient estimators for normalising flows.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from latflow.densities.recipe import constructed
from latflow.estimators.base import Estimate, Estimator, Gather
from latflow.estimators.counting import Counting
from latflow.estimators.data import ForwardKLOfFile
from latflow.estimators.labels import SoftLabels
from latflow.estimators.path import ForwardPath, PathGradient, Reparametrization
from latflow.estimators.ranges import SoftLabelsInRanges
from latflow.estimators.score import Baseline, ForwardKL, ScoreFunction

__all__ = [
    "ESTIMATORS",
    "Baseline",
    "Counting",
    "Estimate",
    "Estimator",
    "ForwardKL",
    "ForwardKLOfFile",
    "ForwardPath",
    "Gather",
    "PathGradient",
    "Reparametrization",
    "ScoreFunction",
    "SoftLabels",
    "SoftLabelsInRanges",
    "counting",
    "estimator_of",
    "forward_kl",
    "forward_path",
    "path_gradient",
    "reinforce",
    "reinforce_leave_one_out",
    "reparametrization",
    "score",
    "soft_labels",
    "soft_labels_in_ranges",
]

score: ScoreFunction = ScoreFunction("none")
"""g1 = ⟨δ s⟩."""

reinforce: ScoreFunction = ScoreFunction("mean")
"""g2 = ⟨δ (s − s̄)⟩."""

reinforce_leave_one_out: ScoreFunction = ScoreFunction("leave_one_out")
"""g2 made unbiased: the baseline of each draw is the mean of the others."""

reparametrization: Reparametrization = Reparametrization()
"""g3, through the draws and the action."""

path_gradient: PathGradient = PathGradient()
"""The path gradient of arXiv:2207.08219."""

forward_path: ForwardPath = ForwardPath()
"""The path gradient of the forward divergence, with its settings as they are."""


def soft_labels(**options: Any) -> SoftLabels:
    """The estimator by soft labels, with chains of its own: one for each training."""
    return SoftLabels(**options)


def counting(**options: Any) -> Counting:
    """The estimator that counts, with chains of its own: one for each training."""
    return Counting(**options)


def soft_labels_in_ranges(**options: Any) -> SoftLabelsInRanges:
    """The same for a density with ranges of couplings, with chains at several of these."""
    return SoftLabelsInRanges(**options)


def forward_kl(configurations: Tensor) -> ForwardKL:
    """The estimator of maximum likelihood on these configurations, (number, …): the only one with data."""
    return ForwardKL(configurations)


ESTIMATORS: dict[str, Estimator] = {
    "score": score,
    "reinforce": reinforce,
    "reinforce_leave_one_out": reinforce_leave_one_out,
    "reparametrization": reparametrization,
    "path_gradient": path_gradient,
    "forward_path": forward_path,
    "forward_kl": ForwardKLOfFile(),
    "soft_labels": SoftLabels(),
    "counting": Counting(),
    "soft_labels_in_ranges": SoftLabelsInRanges(),
}
"""The estimators by the name that a configuration uses."""


def estimator_of(name: str, options: Mapping[str, Any]) -> Estimator:
    """An estimator by name, with settings of its own.

    Raises:
        ValueError: for an unknown name or setting, and for a value that the estimator refuses.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"expected one out of {', '.join(ESTIMATORS)}, got {name!r}")
    if not options and not ESTIMATORS[name].stateful:
        return ESTIMATORS[name]
    if (made := type(ESTIMATORS[name])) is ScoreFunction:  # whose only setting is in the name
        raise ValueError(f"expected no options of the estimator {name}, got {', '.join(options)}")
    return constructed(made, options, {})
