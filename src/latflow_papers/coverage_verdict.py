"""How often the verdict is wrong: on runs that are right, and on runs that are wrong on purpose."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator

from latflow import samplers
from latflow.densities.flows import Bijection, Compose, Flow, affine_flow
from latflow.observables import recorded
from latflow.samplers import HMC, IndependenceMetropolis, Sampler, SwendsenWang
from latflow.theories import Action, Phi4, Schwinger, U1Gauge
from latflow.types import Field, LogProb
from latflow.validation import ChainWords, Evidence, MarkovChain, density_checks, validated
from latflow_papers.bench import Bench
from latflow_papers.coverage_models import CASES, quenched
from latflow_papers.coverage_study import CoverageSettings

MODEL = ChainWords("model + Metropolis", "the model's chain", "one proposal of the model", True, True)
BESIDE = ChainWords("established", "the established chain", "one step of the established sampler")
OFF = 1e-3
"""By how much a wrong log-determinant is too large, of itself."""


class Wrong(Bijection):
    """A bijection whose log-determinants are too large by a part `OFF` of them, both ways.

    Args:
        right: the bijection itself.
    """

    def __init__(self, right: Bijection) -> None:
        super().__init__()
        self.right = right

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        y, log_det = self.right.forward(x)
        return y, log_det * (1 + OFF)

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        x, log_det = self.right.inverse(y)
        return x, log_det * (1 + OFF)


def verdicts(bench: Bench, settings: CoverageSettings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is asked, by its title: parts, of which each counts the verdicts after every length.

    Titles of what is wrong on purpose begin with "wrong".
    """

    def proposals(theory: str, quality: int) -> Callable[[], dict[str, Any]]:
        return lambda: _of_model(bench, settings, theory, quality)

    def gauge(title: str, beta: float, said: float, start: float) -> Callable[[], dict[str, Any]]:
        return lambda: _of_links(bench, settings, title, beta, said, start)

    asked: dict[str, Callable[[], dict[str, Any]]] = {
        f"right: {theory} by proposals of {CASES[theory].parameters[i]:g}": proposals(theory, i)
        for theory, i in (("free field", 0), ("Ising", 2))
    }
    asked |= {
        title: gauge(title, *numbers)
        for title, numbers in {
            "right: U(1) 8×8 by HMC": (2.0, 2.0, 2.0),
            "wrong: its coupling by 1%": (2.02, 2.0, 2.02),
            "wrong: frozen in one sector": (8.0, 8.0, 0.0),
        }.items()
    }
    signs = {"right: one flavour with its sign": True, "wrong: without its sign": False}
    asked |= {
        title: (lambda with_sign=one: _of_sign(bench, settings, with_sign)) for title, one in signs.items()
    }
    flows = {"right: an affine flow": False, "wrong: its log-determinant by 0.1%": True}
    asked |= {title: (lambda wrong=one: _of_jacobian(bench, settings, wrong)) for title, one in flows.items()}
    return asked


def _counted(names: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How many verdicts of each kind there are, after each length."""
    kinds = ("passed", "inconclusive", "failed")
    return {"count": [[list(one).count(kind) for kind in kinds] for one in names]}


def _history(
    sampler: Sampler, start: Any, action: Action, steps: int, generator: Generator, thermalisation: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The series of chains and of their proposals; of a theory that may be another than the one sampled."""
    chain = samplers.run(sampler, start, steps, recorded(action), generator, thermalisation)
    return _arrays(chain.series), _arrays(chain.proposals or {})


def _arrays(series: Any) -> dict[str, np.ndarray]:
    return {name: values.double().numpy() for name, values in series.items()}


def _of_model(bench: Bench, settings: CoverageSettings, theory: str, quality: int) -> dict[str, Any]:
    """Runs of a model with the established sampler beside it, all of them right."""
    case = CASES[theory]
    action, generator = case.action, bench.generator(f"verdict on {theory} {quality}")
    chains = settings.judged * settings.judged_chains
    model = case.model(case.parameters[quality])
    sampler = IndependenceMetropolis(model, action, batch=max(chains, 1024))
    established: Sampler = SwendsenWang(action) if theory == "Ising" else HMC.of_length(action, 1.0, 6)
    with torch.no_grad():
        start = case.model(case.best).sample(chains, generator)[0]
    last, first = settings.judged_steps[-1], settings.thermalisation
    series, drawn = _history(
        sampler, sampler.init_from_draws(chains, generator), action, last, generator, first
    )
    beside, _ = _history(established, start, action, last, generator, first)

    def evidence(n: int, mine: slice) -> Evidence:
        draws = {name: a[:n, mine].reshape(-1, *a.shape[2:]) for name, a in drawn.items()}
        both = [
            MarkovChain(words, {name: a[:n, mine] for name, a in record.items()})
            for words, record in ((MODEL, series), (BESIDE, beside))
        ]
        return Evidence(action, both[0], both[1], draws)

    return _counted(list(_asked(settings, evidence)))


def _of_links(
    bench: Bench, settings: CoverageSettings, title: str, beta: float, said: float, start: float
) -> dict[str, Any]:
    """Chains of HMC at one coupling, which are said to be of another; from draws at a coupling, or from 1."""
    action, generator = U1Gauge((8, 8), said), bench.generator(title)
    chains = settings.judged * settings.judged_chains
    with torch.no_grad():
        links = quenched(start, 8).sample(chains, generator)[0] if start else torch.zeros(chains, 2, 8, 8)
    sampler = HMC.of_length(U1Gauge((8, 8), beta), 1.0, 8)
    series, _ = _history(
        sampler, links.double(), action, settings.judged_steps[-1], generator, settings.thermalisation
    )

    def evidence(n: int, mine: slice) -> Evidence:
        return Evidence(action, beside=MarkovChain(BESIDE, {name: a[:n, mine] for name, a in series.items()}))

    return _counted(list(_asked(settings, evidence)))


def _of_sign(bench: Bench, settings: CoverageSettings, with_sign: bool) -> dict[str, Any]:
    """Chains of one flavour at a κ where its determinant often is negative, held against quenched draws."""
    action, generator = Schwinger((4, 4), 1.0, 0.34, 1), bench.generator("one flavour")
    assert action.reweighting is not None
    chains = settings.signed * settings.judged_chains
    sampler = IndependenceMetropolis(quenched(1.2), action)
    last = settings.judged_steps[-1]
    series, _ = _history(
        sampler, sampler.init_from_draws(chains, generator), action, last, generator, settings.thermalisation
    )
    if not with_sign:
        series[action.reweighting] = np.ones_like(series[action.reweighting])

    def verdict(r: int) -> str:
        mine = slice(r * settings.judged_chains, (r + 1) * settings.judged_chains)
        chain = MarkovChain(BESIDE, {name: a[:, mine] for name, a in series.items()})
        return validated(Evidence(action, beside=chain, seed=r)).verdict

    return _counted([[verdict(r) for r in range(settings.signed)]])


def _of_jacobian(bench: Bench, settings: CoverageSettings, wrong: bool) -> dict[str, Any]:
    """The checks of a flow itself, of flows with random weights."""
    action, generator, found = Phi4((4, 4), 0.1, 0.3), bench.generator("flows"), []
    for _ in range(settings.jacobians):
        flow = affine_flow((4, 4), layers=4, hidden=(4,), generator=generator).double()
        with torch.no_grad():
            for weights in flow.parameters():
                weights.add_(0.1 * torch.randn(weights.shape, generator=generator, dtype=weights.dtype))
        taken = Flow(flow.prior, Compose(Wrong(flow.bijection))) if wrong else flow
        found.append("passed" if all(one.passed for one in density_checks(taken, action)) else "failed")
    return _counted([found])


def _asked(settings: CoverageSettings, evidence: Callable[[int, slice], Evidence]) -> Iterator[list[str]]:
    """The verdicts on all runs, after each length."""
    for n in settings.judged_steps:
        found = []
        for r in range(settings.judged):
            mine = slice(r * settings.judged_chains, (r + 1) * settings.judged_chains)
            found.append(validated(evidence(n, mine)).verdict)
        yield found
