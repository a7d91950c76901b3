"""Theories whose averages are known, and models of them of a known quality, good ones and poor ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.analysis import Measurement, summary
from latflow.densities.flows import Compose, Flow, FourierLayer, QuenchedLinks, spline_flow
from latflow.exact import phi4_log_z, phi4_phi_squared, potts_states, spin_states
from latflow.observables import Observable, Observe, observing
from latflow.theories import Action, Ising, Phi4, Potts, Schwinger, U1Gauge
from latflow.types import LogProb
from latflow.validation import known

_AT_ONCE = 4096


@dataclass(frozen=True)
class Enumerated:
    """The density exp(−S)/Z of a theory with few configurations, drawn from the table of all of them.

    Attributes:
        action: S.
        states: all configurations, (number, *lattice), counted as `exact.potts_states` counts them.
        values: what a site can have, in ascending order of the digits that it counts as.
    """

    action: Action
    states: Tensor
    values: tuple[int, ...]

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, LogProb]:
        """n independent draws, and log q of each."""
        index = torch.multinomial(self.log_q.exp(), n, replacement=True, generator=generator)
        return self.states[index], self.log_q[index]

    def log_prob(self, x: Tensor) -> LogProb:
        """log q(x)."""
        digits = torch.searchsorted(torch.tensor(self.values), x.long().flatten(1).contiguous())
        powers = len(self.values) ** torch.arange(digits.shape[1] - 1, -1, -1)
        return self.log_q[self.place[(digits * powers).sum(1)]]

    @cached_property
    def log_q(self) -> LogProb:
        """Of all configurations."""
        log_w = -torch.cat([self.action(part).double() for part in self.states.split(_AT_ONCE)])
        return log_w - log_w.logsumexp(0)

    @cached_property
    def place(self) -> Tensor:
        """Where a configuration stands in the table, by its number."""
        digits = torch.searchsorted(torch.tensor(self.values), self.states.long().flatten(1).contiguous())
        powers = len(self.values) ** torch.arange(digits.shape[1] - 1, -1, -1)
        return (digits * powers).sum(1).argsort()


def gaussian(m2: float, narrow: float, side: int = 4) -> Flow:
    """The free field of a mass, its covariance divided by `narrow`: a flow of one Fourier layer.

    Of the free field itself, of V sites, the weights of its draws have ESS = (r (2 − r))^{V/2}, r = narrow.
    """
    flow = spline_flow((side, side), layers=0, site_bins=0, scale=1.0)
    layer = next(module for module in flow.modules() if isinstance(module, FourierLayer))
    with torch.no_grad():
        layer.log_mass_squared.fill_(math.log(m2))
        layer.exponent.fill_(1.0)
        layer.log_scale.fill_(-0.5 * math.log(2 * narrow))
    return flow.double()


def quenched(beta: float, side: int = 4) -> Flow:
    """U(1) links of pure gauge theory, drawn exactly at another coupling."""
    return Flow(QuenchedLinks((side, side), beta), Compose())


class Case(NamedTuple):
    """A theory, models of it, and the averages by which errors are judged.

    Attributes:
        action: the theory.
        model: by its parameter.
        parameters: of the models, from the best to the poorest.
        best: the parameter of the model that makes what is not known in closed form, by its weights.
        names: of the observables.
    """

    action: Action
    model: Callable[[float], Flow | Enumerated]
    parameters: tuple[float, ...]
    best: float
    names: tuple[str, ...]

    @property
    def observables(self) -> list[Observable]:
        """Those that are judged, those by which errors know the tail of ρ, and that by which chains count."""
        wanted = {*self.names, "action_density"}
        return [one for one in self.action.observables if one.label and (one.name in wanted or one.slow)]

    @property
    def observe(self) -> Observe:
        """What they are made of."""
        needed = {name for one in self.observables for name in one.needs}
        return observing([one for one in self.action.observables if one.name in needed])


@cache
def _ising(beta: float) -> Enumerated:
    return Enumerated(Ising((4, 4), beta), spin_states((4, 4)), (-1, 1))


@cache
def _potts(beta: float) -> Enumerated:
    return Enumerated(Potts((3, 3), 3, beta), potts_states((3, 3), 3), (0, 1, 2))


_SCALAR = ("phi_squared", "V_magnetization_squared", "binder_cumulant", "action_density", "log_z")
_LINKS = ("plaquette", "charge_squared", "log_z")

CASES = {
    "free field": Case(
        Phi4((4, 4), 0.5, 0.0), lambda r: gaussian(0.5, r), (1.114, 1.374, 1.559), 1.0, _SCALAR
    ),
    "φ⁴": Case(Phi4((4, 4), 0.1, 0.3), lambda r: gaussian(0.45, r), (0.95, 0.6, 0.43), 1.0, _SCALAR),
    "U(1)": Case(U1Gauge((4, 4), 2.0), quenched, (2.2, 2.75, 3.1), 2.0, _LINKS),
    "Schwinger": Case(Schwinger((4, 4), 2.0, 0.2), quenched, (2.1, 2.75, 1.1), 2.1, (*_LINKS, "condensate")),
    "Ising": Case(
        Ising((4, 4), 0.4),
        _ising,
        (0.36, 0.53, 0.61),
        0.4,
        ("energy", "abs_magnetization", "binder_cumulant", "specific_heat", "log_z"),
    ),
    "Potts": Case(
        Potts((3, 3), 3, 0.8),
        _potts,
        (0.88, 0.5, 1.3),
        0.8,
        ("energy", "order_parameter", "specific_heat", "log_z"),
    ),
}
"""Models are too narrow where the parameter lies above that of the theory, and too wide below it."""


def known_of(part: dict[str, Any]) -> dict[str, Measurement]:
    """What `reference` has found, as it is kept."""
    return {name: Measurement(*pair) for name, pair in part["known"].items()}


def reference(case: Case, draws: int, generator: Generator) -> dict[str, Any]:
    """What averages are, exact where they are known, and else by many weighted draws of the best model.

    Value and error of each, by name, under "known".
    """
    found = _reference(case, draws, generator)
    return {"known": {name: [one.value, one.error] for name, one in found.items()}}


def _reference(case: Case, draws: int, generator: Generator) -> dict[str, Measurement]:
    exactly = known(case.action)
    if isinstance(case.action, Phi4) and case.action.lam:
        lattice, m2, lam = case.action.lattice, case.action.m2, case.action.lam
        exactly |= {
            "log_z": Measurement(*phi4_log_z(lattice, m2, lam)),
            "phi_squared": Measurement(*phi4_phi_squared(lattice, m2, lam)),
        }
    if set(case.names) <= set(exactly):
        return {name: exactly[name] for name in case.names}
    model, observe, parts = case.model(case.best), case.observe, []
    with torch.no_grad():
        for first in range(0, draws, _AT_ONCE):
            x, log_q = model.sample(min(_AT_ONCE, draws - first), generator)
            parts.append(observe(x) | {"log_weight": -case.action(x) - log_q})
    series = {name: torch.cat([part[name] for part in parts]).double().numpy() for name in parts[0]}
    by_weights = summary(series, case.observables, np.asarray(series["log_weight"]))
    return {name: exactly.get(name, by_weights[name]) for name in case.names}
