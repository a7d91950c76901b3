"""Many short runs of one kind, each analysed as if it were the only one, and what their errors were worth."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from latflow import samplers
from latflow.analysis import (
    Measurement,
    draws_behind_errors,
    effective_sample_size,
    largest_weight_share,
    pareto_tail_index,
    summary,
)
from latflow.densities.flows import Flow
from latflow.errors import UnreliableErrorWarning
from latflow.registry import load
from latflow.samplers import HMC, Cycle, IndependenceMetropolis, SingleSpin, SwendsenWang, flowed_hmc
from latflow.theories import Ising
from latflow_papers.bench import Bench
from latflow_papers.coverage_models import CASES, Case

SHORT = 0.3
"""Of the trajectories of the poorer HMC; those of the better one have length 1."""
JITTER = 0.5
"""Of its step size: trajectories of one length bring modes of some frequencies back to where they were."""


_TRUST = ("count", "worth", "behind", "pareto", "share")
"""What a run tells of itself: N/2τ of the action; of its weights N·ESS, the draws behind errors, the tail
index and the largest share of all weight."""


@dataclass(frozen=True)
class CoverageSettings:
    """How often and how long is run.

    Attributes:
        repeats: independent runs of each pair of theory and method.
        chains: of a run.
        steps: after which a run is analysed; HMC of dynamical fermions is analysed without the last.
        thermalisation: steps before the record.
        draws: by whose weights averages are known that have no closed form.
        judged: runs of each kind that the verdict is asked about.
        judged_steps: their lengths.
        judged_chains: their chains.
        signed: runs with and without the sign of one flavour.
        jacobians: flows with a right and with a wrong Jacobian.
    """

    repeats: int = 200
    chains: int = 4
    steps: tuple[int, ...] = (25, 100, 400)
    thermalisation: int = 50
    draws: int = 200_000
    judged: int = 40
    judged_steps: tuple[int, ...] = (25, 100, 400)
    judged_chains: int = 16
    signed: int = 10
    jacobians: int = 20


@dataclass(frozen=True)
class Pair:
    """A theory and a method.

    Attributes:
        theory: by its name among the cases.
        method: what draws, in words.
        quality: which of the models, 0 the best; None where there is none.
    """

    theory: str
    method: str
    quality: int | None = None

    @property
    def case(self) -> Case:
        """The theory with what is known of it."""
        return CASES[self.theory]

    @property
    def parameter(self) -> float:
        """Of its model."""
        return self.case.parameters[self.quality or 0]

    @property
    def name(self) -> str:
        """Of its part."""
        words = f"{self.theory} {self.method}"
        return words if self.quality is None else f"{words} {self.parameter:g}"


def pairs() -> list[Pair]:
    """All of them: proposals and their weights of each model, and what else serves the theory."""
    found = [Pair(name, "proposals", i) for name, case in CASES.items() for i in range(len(case.parameters))]
    found += [Pair("Ising", "heat bath"), Pair("Ising", "clusters"), Pair("Potts", "clusters")]
    found += [Pair("free field", "flowed HMC", 1), Pair("φ⁴", "flowed HMC", 1)]
    for theory in ("free field", "φ⁴", "U(1)"):
        found += [Pair(theory, "HMC"), Pair(theory, "HMC, short"), Pair(theory, "cycle", 1)]
    found.append(Pair("free field", "HMC, all of one length"))
    return [*found, Pair("Schwinger", "HMC"), Pair("Schwinger", "cycle", 1)]


def runs_of(bench: Bench, settings: CoverageSettings, pair: Pair) -> dict[str, Any]:
    """Runs of a pair, each analysed after every length; of proposals the chain and the "weights"."""
    case, generator = pair.case, bench.generator(pair.name)
    number = settings.repeats * settings.chains
    costly = case.action.costly and pair.method != "proposals"
    steps = settings.steps[:-1] if costly else settings.steps
    sampler, start = _sampler(pair, number, generator)
    chain = samplers.run(
        sampler,
        start,
        steps[-1],
        case.observe,
        generator,
        0 if pair.method == "proposals" and pair.quality == 0 else settings.thermalisation,
    )
    series = _arrays(chain.series)
    drawn = _arrays(chain.proposals) if pair.method == "proposals" and chain.proposals is not None else {}
    found: dict[str, Any] = {"steps": list(steps), "acceptance": float(series["accepted"].mean())}
    found["chain"] = _judged(settings, case, steps, series, drawn, weighted=False)
    if drawn:
        found["weights"] = _judged(settings, case, steps, drawn, drawn, weighted=True)
        found["ess"] = effective_sample_size(drawn["log_weight"])
    return found


def _arrays(series: Any) -> dict[str, np.ndarray]:
    return {name: values.double().numpy() for name, values in series.items()}


def _sampler(pair: Pair, number: int, generator: Generator) -> tuple[Any, Any]:
    """The sampler of a pair, and where its chains begin: at draws of the best model."""
    case, action = pair.case, pair.case.action
    model = case.model(pair.parameter)
    if pair.method == "proposals":
        # batches of one step: a chain of many repeats fills them
        sampler = IndependenceMetropolis(model, action, batch=max(number, 1024))
        return sampler, sampler.init_from_draws(number, generator)
    with torch.no_grad():
        start = case.model(case.best).sample(number, generator)[0]
    made: dict[str, Callable[[], Any]] = {
        "HMC": lambda: HMC.of_length(action, 1.0, 6, jitter=JITTER),
        "HMC, all of one length": lambda: HMC.of_length(action, 1.0, 6),
        "HMC, short": lambda: HMC.of_length(action, SHORT, 3),
        "flowed HMC": lambda: flowed_hmc(_flow(model), action, 1 / 6, 6),
        "cycle": lambda: Cycle(
            [HMC.of_length(action, SHORT, 3), IndependenceMetropolis(model, action, batch=max(number, 1024))],
            names=("hmc", "proposals"),
        ),
        "heat bath": lambda: SingleSpin(action),
        "clusters": lambda: (
            SwendsenWang(action)
            if isinstance(action, Ising)
            else load("samplers", "potts_swendsen_wang")(action)
        ),
    }
    return made[pair.method](), start


def _flow(model: Any) -> Flow:
    assert isinstance(model, Flow)
    return model


def _judged(
    settings: CoverageSettings,
    case: Case,
    steps: tuple[int, ...],
    series: dict[str, np.ndarray],
    drawn: dict[str, np.ndarray],
    *,
    weighted: bool,
) -> dict[str, Any]:
    """Values and errors (lengths, observables, runs), and by what the verdict would trust each run."""
    names = [name for name in case.names if weighted or name != "log_z"]
    shape = len(steps), len(names), settings.repeats
    values, errors = torch.full(shape, math.nan).double(), torch.full(shape, math.nan).double()
    trust = {name: torch.full(shape[::2], math.nan).double() for name in _TRUST}
    for i, n in enumerate(steps):
        for r in range(settings.repeats):
            mine = slice(r * settings.chains, (r + 1) * settings.chains)
            own = {name: array[:n, mine] for name, array in series.items()}
            log_weight = drawn["log_weight"][:n, mine].reshape(-1) if drawn else None
            found = analysed(case, own, log_weight if weighted else None)
            for j, name in enumerate(names):
                if name in found:
                    values[i, j, r], errors[i, j, r] = found[name].value, found[name].error
            action = found["action_density"]
            count = n * settings.chains / max(2 * (action.tau_int or 0.5), 1.0)
            if log_weight is not None:
                trust["worth"][i, r] = log_weight.size * effective_sample_size(log_weight)
                trust["behind"][i, r] = draws_behind_errors(log_weight)
                trust["pareto"][i, r] = max(pareto_tail_index(log_weight), -10.0)
                trust["share"][i, r] = largest_weight_share(log_weight)
            trust["count"][i, r] = count
    return {"names": names, "value": values, "error": errors, **trust}


def analysed(
    case: Case, series: dict[str, np.ndarray], log_weight: np.ndarray | None
) -> dict[str, Measurement]:
    """The table of a run: that of its report."""
    if log_weight is not None:
        series = {name: values.reshape(-1, *values.shape[2:]) for name, values in series.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        return summary(series, case.observables, log_weight)


def pulls(found: dict[str, Any], known: dict[str, Measurement]) -> Tensor:
    """(value − exact)/error, (lengths, observables, runs); nan without an error."""
    exact = torch.tensor([[known[name].value, known[name].error] for name in found["names"]]).double()
    error = torch.hypot(found["error"], exact[:, None, 1])
    return torch.where(error > 0, (found["value"] - exact[:, None, 0]) / error, math.nan)
