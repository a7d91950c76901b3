"""Whether configurations obey the identities of an action and its symmetries, many of them at once."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri, stdtr
from torch import Generator, Tensor

from latflow.analysis import measure
from latflow.fields.identities import Identities, of_translations, place
from latflow.lattice import volume
from latflow.measurement import Measurement
from latflow.theories import Action
from latflow.validation.checks import Check
from latflow.validation.table import MAX_PULL

_AT_ONCE = 2**18
"""Numbers of the configurations that are evaluated at a time."""
_EVALUATIONS = 2**30
"""Numbers that may be read where each site takes an evaluation of S: some ten seconds."""
_FEWEST_SITES = 16
_ASKED = 16
"""Configurations of which S is asked whether it has a symmetry."""
_MEASURED = 48
"""Of many identities those are measured with autocorrelations that are farthest from zero without."""


Evaluate = Callable[[Tensor, Generator], Identities]
"""Identities of some configurations."""


@dataclass(frozen=True)
class Identity:
    """An identity, or many of one kind, as an ensemble obeys it.

    Attributes:
        title: the identity.
        number: how many of them.
        place: which of them is farthest from zero; empty of one alone.
        value: what is to be zero, of that one.
        pull: its value in units of its error.
        significance: the same as a normal deviate of equal probability, for an error that is itself estimated
            from a finite series, and the largest of so many.
    """

    title: str
    number: int
    place: str
    value: Measurement
    pull: float
    significance: float

    @property
    def passed(self) -> bool:
        """Whether it is compatible with zero."""
        return self.significance <= MAX_PULL


def identity_checks(action: Action, fields: Tensor, seed: int = 0) -> Iterator[Check]:
    """A check of each kind of identity that the field's kind has, and of each symmetry of the lattice."""
    for one in identities(action, fields, seed):
        if one.number == 1:
            detail = f"off by {one.value}, {in_words(one.pull, one.significance)}"
        else:
            detail = (
                f"{one.place} is farthest off, by {one.value}, {one.pull:+.1f} σ, which as the largest of "
                f"{one.number} is {one.significance:.1f} σ"
            )
        detail = detail.replace("-", "−")
        if not one.passed:
            detail += ": these are no configurations of this action, or not all of them"
        yield Check(one.title, one.passed, detail)


def identities(action: Action, fields: Tensor, seed: int = 0) -> list[Identity]:
    """How configurations obey the identities of an action, those of `fields.identities`.

    Args:
        action: S.
        fields: (steps, chains, …).
        seed: of what is random in them.
    """
    sites = asked_sites(action, fields, seed)
    invariant = invariances(action, fields)

    def evaluate(x: Tensor, generator: Generator) -> Identities:
        own = action.kind.identities(action, x, generator, sites)
        alike = of_translations(action.kind, action, x, *invariant)
        return {f"Schwinger–Dyson {title}": values for title, values in own.items()} | {
            f"symmetry {title}": values for title, values in alike.items()
        }

    farthest = _farthest(evaluate, fields, seed)
    series: dict[str, list[Tensor]] = {title: [] for title in farthest}
    for found in evaluated(evaluate, fields, seed):
        for title, (_, columns) in farthest.items():
            series[title].append(found[title].reshape(len(found[title]), -1)[:, columns].double())
    told = []
    for title, (number, columns) in farthest.items():
        values = torch.cat(series[title]).numpy().reshape(*fields.shape[:2], -1)
        measured = [_measured(title, values[..., i], number, i) for i in range(values.shape[-1])]
        deviation, value, pull, i = max(measured, key=lambda one: one[0])
        where = "" if number == 1 else place(action.lattice, sites, number, int(columns[i]))
        told.append(Identity(title, number, where, value, pull, deviation))
    return told


def invariances(action: Action, fields: Tensor) -> tuple[bool, bool]:
    """Whether S stays when a field is translated, and when all directions change places, of some fields.

    Neither is asked of a field whose last axes are not those of the lattice, nor the latter of one with
    several numbers a site, whose directions may be among them.
    """
    lattice, flat = tuple(action.lattice), fields.flatten(0, 1)[:_ASKED]
    x = flat.double() if flat.is_floating_point() else flat
    if tuple(x.shape[-len(lattice) :]) != lattice:
        return False, False
    s = action(x)

    def stays(other: Tensor) -> bool:
        return torch.allclose(action(other), s, rtol=1e-9, atol=1e-9)

    axes = range(x.ndim - len(lattice), x.ndim)
    translated = all(stays(x.roll(1, axis)) for axis in axes)
    square = len(set(lattice)) == 1 < len(lattice) and tuple(x.shape[1:]) == lattice
    turned = square and stays(x.transpose(1, 2)) and stays(x.transpose(1, x.ndim - 1))
    return translated, translated and turned


def asked_sites(action: Action, fields: Tensor, seed: int) -> Tensor:
    """All sites, or some where each takes an evaluation of S and these would take too long."""
    size = len(fields) * fields.shape[1] * math.prod(action.field_shape)
    count, sites = max(_FEWEST_SITES, _EVALUATIONS // size), torch.arange(volume(action.lattice))
    if count >= len(sites):
        return sites
    order = torch.randperm(len(sites), generator=Generator().manual_seed(seed))
    return order[:count].sort().values


def significance(pull: float, number: int, degrees: float) -> float:
    """The normal deviate as improbable as the largest |pull| of so many, whose error has so many degrees."""
    probability = 2 * float(stdtr(max(degrees, 1.0), -abs(pull)))
    together = -math.expm1(number * math.log1p(-min(probability, 1 - 1e-16)))
    return float(-ndtri(together / 2)) if together > 1e-300 else abs(pull)


def in_words(pull: float, significance: float) -> str:
    """How far a number is from what it should be; of too few configurations why that may be no failure."""
    told = f"{pull:+.1f} σ"
    if abs(pull) > MAX_PULL >= significance:
        told += f", which of so few configurations counts as {significance:.1f} σ"
    return told


def _farthest(evaluate: Evaluate, fields: Tensor, seed: int) -> dict[str, tuple[int, Tensor]]:
    """How many identities each title has, and those farthest from zero in units of their naive errors."""
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for found in evaluated(evaluate, fields, seed):
        for title, values in found.items():
            flat = values.reshape(len(values), -1).double()
            one, two = sums.get(title, (flat.new_zeros(()), flat.new_zeros(())))
            sums[title] = one + flat.sum(0), two + flat.square().sum(0)
    n, farthest = len(fields) * fields.shape[1], {}
    for title, (one, two) in sums.items():
        mean, variance = one / n, (two / n - (one / n) ** 2).clamp(min=0)
        told = torch.where(two == 0, 0.0, mean.abs() / variance.sqrt()).nan_to_num(math.inf, math.inf)
        if not bool((two <= 1e-18 * n).all()):  # 0 = 0 says nothing
            farthest[title] = len(one), told.topk(min(_MEASURED, len(told))).indices
    return farthest


def evaluated(evaluate: Evaluate, fields: Tensor, seed: int) -> Iterator[Identities]:
    """The identities of some configurations at a time, with the same random numbers each time."""
    flat = fields.flatten(0, 1)
    count = max(1, _AT_ONCE // flat[0].numel())
    for number, part in enumerate(flat.split(count)):
        x = part.double() if part.is_floating_point() else part
        generator = Generator().manual_seed(seed + number)
        with torch.no_grad():
            yield evaluate(x, generator)


def _measured(title: str, values: np.ndarray, number: int, i: int) -> tuple[float, Measurement, float, int]:
    """How far one identity is from zero, what it is, its pull, and which it was."""
    if not np.isfinite(values).all():
        return math.inf, Measurement(math.nan, math.nan), math.inf, i
    found = measure(values, name=title)
    if math.isnan(found.error):  # a constant: right or wrong beyond doubt
        zero = abs(found.value) < 1e-9
        return (0.0 if zero else math.inf), found, (0.0 if zero else math.inf), i
    pull = found.pull(0.0)
    degrees = values.size / (2 * (found.window or 0) + 1)
    return significance(pull, number, degrees), found, pull, i
