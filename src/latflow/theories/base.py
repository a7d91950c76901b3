"""The action S: a map from a batch of fields to a batch of numbers, whose target is exp(−S)."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Annotated, Any, NamedTuple, Protocol, get_args, get_origin, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.fields.base import FieldKind
from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.theories.growth import Growth
from latflow.theories.neighbours import CoupledSites, NearestNeighbours
from latflow.types import Lattice, LogProb


class Evaluation(NamedTuple):
    """What a sampler needs of a point.

    Attributes:
        value: S(x).
        force: −∂S/∂x, a tangent at x.
        field: the physical configuration at x: x itself, unless the action is one of other variables.
    """

    value: LogProb
    force: Tensor
    field: Tensor


class ByCost(NamedTuple):
    """An action as the sum of two, S = cheap + costly, by what their forces take.

    Attributes:
        cheap: sums over neighbouring sites and their like.
        costly: what takes far longer, such as the determinant of fermions.
    """

    cheap: "Action"
    costly: "Action"


class Words(NamedTuple):
    """A theory in words.

    Attributes:
        name: "φ⁴ theory".
        parameters: "m² = −4, λ = 8".
        formula: of the action; empty where none is given.
    """

    name: str
    parameters: str = ""
    formula: str = ""


@runtime_checkable
class ExactSampler(Protocol):
    """Independent draws of a normalised density."""

    label: str
    """What averages over it are called where it stands in for another theory: "quenched"."""

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, LogProb]:
        """n draws x and log q(x) of each."""
        ...


class Action(ABC):
    """An action. Actions add and scale: `a + b`, `2.0 * a`.

    A theory of one's own needs `lattice`, `kind` and one method, `__call__`; all else is what it may say in
    addition. What it does not say is absent from tables and figures.
    """

    lattice: Lattice
    kind: FieldKind
    """What the field is, for example `fields.SCALAR`."""

    @abstractmethod
    def __call__(self, x: Tensor) -> LogProb:
        """S(x), one number for each configuration."""

    def force(self, x: Tensor) -> Tensor:
        """F(x) = −∂S/∂x, a tangent at x, by automatic differentiation unless the theory has a closed form.

        Raises:
            ValueError: for a discrete field, which has none.
        """
        manifold = self.kind.manifold
        if manifold is None:
            raise ValueError(
                f"a discrete field ({self.kind}) has no force: train it with the estimator score, reinforce "
                "or reinforce_leave_one_out, and sample it with a sampler of its own"
            )
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(leaf).sum(), leaf)
        return manifold.project(x, -gradient)

    def evaluate(self, x: Tensor) -> Evaluation:
        """Value, force and physical configuration at once: cheaper than apart, where that is possible."""
        return Evaluation(self(x), self.force(x), x)

    def coordinates(self, field: Tensor) -> Tensor:
        """The x whose physical configuration is `field`: itself, unless the action has other variables."""
        return field

    @property
    def field_shape(self) -> tuple[int, ...]:
        """The shape of one configuration."""
        return tuple(self.kind.shape(self.lattice))

    @property
    def z2_symmetric(self) -> bool:
        """Whether S(−x) = S(x) holds for every x."""
        return False

    @property
    def costly(self) -> bool:
        """Whether the force takes far longer than a sum over neighbouring sites, as that of a determinant."""
        return False

    def by_cost(self) -> ByCost | None:
        """The cheap and the costly part of S, which HMC may move on time scales of their own.

        None where all of it costs alike.
        """
        return None

    @property
    def established(self) -> tuple[str, ...]:
        """The registered samplers that move the chain beside a model by default; () for no such chain."""
        return self.kind.established

    @property
    def reweighting(self) -> str | None:
        """The recorded series σ that reweights averages, ⟨Oσ⟩/⟨σ⟩; None where the weight is exp(−S)."""
        return None

    @property
    def observables(self) -> tuple[Observable, ...]:
        """All that is recorded and tabled of this theory, in the order of the tables."""
        volume = int(np.prod(self.lattice))
        return (
            Observable("log_z", "log Z", of=("action",), estimate=lambda sample: sample.log_z()),
            *self.kind.observables(self.lattice),
            Observable("action", function=self),
            Observable("action_density", "⟨S⟩/V", of=("action",), each=lambda s: s / volume),
            *self.own_observables(),
        )

    def own_observables(self) -> tuple[Observable, ...]:
        """Those that this theory has beside the ones of its kind."""
        return ()

    def known(self) -> Mapping[str, Measurement]:
        """What is known before sampling, by the names of observables: closed forms and their like."""
        return {}

    def known_series(self, name: str) -> np.ndarray | None:  # noqa: ARG002 (nothing is known)
        """The exact average of a recorded array such as a correlator, where it is known."""
        return None

    def probability(self, name: str, values: np.ndarray) -> np.ndarray | None:  # noqa: ARG002
        """The exact probabilities of values of an observable that takes few, where they are known."""
        return None

    def exact_sampler(self) -> ExactSampler | None:
        """Independent draws of exp(−S)/Z, where there is a way to make them."""
        return None

    def neighbour(self) -> "tuple[ExactSampler, Action] | None":
        """A theory nearby that is drawn exactly, and what its action lacks: averages by reweighting."""
        return None

    def nearest_neighbours(self) -> NearestNeighbours | None:
        """The theory as weights of single sites with the same coupling to all neighbours, where it is one."""
        return None

    def coupled_sites(self) -> CoupledSites | None:
        """The theory as weights of single sites that are coupled to their neighbours, where it is one."""
        return self.nearest_neighbours()

    def holonomy_density(self, links: Tensor, angles: Tensor) -> Tensor | None:  # noqa: ARG002
        """exp(−S) of links whose loops around the lattice are turned, where a theory of links can tell it.

        Plaquettes stay as they are. The lattice may be another than that of the theory.

        Args:
            links: (batch, 2, L0, L1), float64.
            angles: of the loops in time and of those in space, (grid,).

        Returns:
            (batch, grid, grid), up to a factor for each configuration.
        """
        return None

    @property
    def words(self) -> Words:
        """The theory in words."""
        parts = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        shown = {
            part.name: getattr(self, part.name)
            for part in parts
            if part.name != "lattice" and isinstance(getattr(self, part.name), int | float | str)
        }
        numbers = ", ".join(f"{name} = {_plain(value)}" for name, value in shown.items())
        return Words(type(self).__name__, numbers)

    def on_lattice(self, lattice: Sequence[int]) -> "Action":
        """The same theory on another lattice; a dataclass with a `lattice` needs no method of its own.

        Raises:
            ValueError: for a theory that is bound to its lattice.
        """
        own = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        if not any(one.name == "lattice" and one.init for one in own):
            raise ValueError(f"expected a theory with `on_lattice`, got {type(self).__name__}")
        return dataclasses.replace(self, lattice=tuple(lattice))  # pyright: ignore[reportArgumentType]

    @property
    def coupling_constants(self) -> dict[str, float]:
        """The real numbers of the action by name, all of which `at` can change: β, m², λ and their like.

        Of a dataclass they are its arguments of type float, with bounds or without.
        """
        own = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        real = [one.name for one in own if one.init and _is_float(one.type)]
        return {name: float(getattr(self, name)) for name in real}

    def at(self, **constants: float) -> "Action":
        """The same theory with other coupling constants; a dataclass needs no method of its own.

        Raises:
            ValueError: for a name that is none of `coupling_constants`.

        >>> import latflow as lf
        >>> lf.actions.HoppingPhi4((8, 8), beta=0.6, lam=0.5).at(beta=0.62).beta
        0.62
        """
        known = self.coupling_constants
        if unknown := [name for name in constants if name not in known]:
            raise ValueError(
                f"expected coupling constants of {self.words.name} out of {', '.join(known) or 'none'}, got "
                f"{', '.join(unknown)}"
            )
        return dataclasses.replace(self, **constants)  # pyright: ignore[reportArgumentType]

    def check(self, x: Tensor) -> None:
        """Refuse a batch of fields of another shape.

        Raises:
            ValueError: saying what was expected and what came.
        """
        self.kind.check(x, self.lattice)

    def growth(self) -> Growth | None:
        """How S grows far out, where it is known; None where nothing is, as of fields that cannot go far."""
        return None

    def check_proper(self) -> None:
        """Refuse a target that does not exist: an action whose weight exp(−S) has no integral.

        An action may be one that only makes sense within a sum, so that constructors do not ask; what samples
        or trains towards exp(−S) does. By default this asks `growth`; where that is None, nothing is refused.

        Raises:
            ValueError: naming the numbers that are wrong.
        """
        if (growth := self.growth()) is not None:
            growth.check(self.lattice, self.words.parameters)

    def __add__(self, other: "Action") -> "Action":
        if not isinstance(other, Action):
            return NotImplemented
        return Sum(self, other)

    def __mul__(self, factor: float) -> "Action":
        if not isinstance(factor, int | float):
            return NotImplemented
        return Scaled(self, float(factor))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Sum(Action):
    """S = S_a + S_b, two theories on one lattice.

    Raises:
        ValueError: when the lattices or the kinds of field differ.
    """

    first: Action
    second: Action

    def __post_init__(self) -> None:
        theirs = (str(self.second.kind), self.second.lattice)
        if self.first.kind != self.second.kind or self.first.lattice != self.second.lattice:
            mine = (str(self.first.kind), self.first.lattice)
            raise ValueError(f"expected two actions of one field on one lattice, got {mine} and {theirs}")

    @property
    def lattice(self) -> Lattice:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.first.lattice

    @property
    def kind(self) -> FieldKind:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.first.kind

    def on_lattice(self, lattice: Sequence[int]) -> Action:
        return Sum(self.first.on_lattice(lattice), self.second.on_lattice(lattice))

    @property
    def z2_symmetric(self) -> bool:
        return self.first.z2_symmetric and self.second.z2_symmetric

    @property
    def costly(self) -> bool:
        return self.first.costly or self.second.costly

    def by_cost(self) -> ByCost | None:
        """All that is cheap in either part, and all that is costly."""
        (cheap, costly), (more_cheap, more_costly) = (
            _cheap_and_costly(self.first),
            _cheap_and_costly(self.second),
        )
        cheap, costly = cheap + more_cheap, costly + more_costly
        return ByCost(reduce(add, cheap), reduce(add, costly)) if cheap and costly else None

    @property
    def established(self) -> tuple[str, ...]:
        mine, theirs = self.first.established, self.second.established
        return mine if mine == theirs else self.kind.established

    @property
    def reweighting(self) -> str | None:
        return self.first.reweighting or self.second.reweighting

    def holonomy_density(self, links: Tensor, angles: Tensor) -> Tensor | None:
        mine, theirs = (part.holonomy_density(links, angles) for part in (self.first, self.second))
        return None if mine is None or theirs is None else mine * theirs

    def own_observables(self) -> tuple[Observable, ...]:
        mine = {one.name: one for one in self.first.own_observables()}
        theirs = {one.name: one for one in self.second.own_observables()}
        return tuple(_unequal(one, mine, theirs) for one in (mine | theirs).values())

    def __mul__(self, factor: float) -> Action:
        """Each part scaled: what they measure may contain their couplings."""
        if not isinstance(factor, int | float):
            return NotImplemented
        return self.first * factor + self.second * factor

    __rmul__ = __mul__

    def neighbour(self) -> tuple[ExactSampler, Action] | None:
        for one, other in ((self.first, self.second), (self.second, self.first)):
            if (sampler := one.exact_sampler()) is not None:
                return sampler, other
        return None

    @property
    def words(self) -> Words:
        one, other = self.first.words, self.second.words
        parameters = ", ".join(text for text in (one.parameters, other.parameters) if text)
        return Words(f"{one.name} + {other.name}", parameters)

    def __call__(self, x: Tensor) -> LogProb:
        return self.first(x) + self.second(x)

    def force(self, x: Tensor) -> Tensor:
        return self.first.force(x) + self.second.force(x)

    def evaluate(self, x: Tensor) -> Evaluation:
        one, other = self.first.evaluate(x), self.second.evaluate(x)
        return Evaluation(one.value + other.value, one.force + other.force, one.field)

    def coordinates(self, field: Tensor) -> Tensor:
        return self.first.coordinates(field)

    def growth(self) -> Growth | None:
        one, other = self.first.growth(), self.second.growth()
        return None if one is None or other is None else one + other


@dataclass(frozen=True)
class Scaled(Action):
    """S = factor · S_inner, for example an inverse temperature.

    Raises:
        ValueError: for a factor that is not finite.
    """

    inner: Action
    factor: float

    def __post_init__(self) -> None:
        check_finite(factor=self.factor)

    @property
    def lattice(self) -> Lattice:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.lattice

    @property
    def kind(self) -> FieldKind:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kind

    def on_lattice(self, lattice: Sequence[int]) -> Action:
        return Scaled(self.inner.on_lattice(lattice), self.factor)

    @property
    def z2_symmetric(self) -> bool:
        return self.inner.z2_symmetric

    @property
    def costly(self) -> bool:
        return self.inner.costly

    def by_cost(self) -> ByCost | None:
        parts = self.inner.by_cost()
        return None if parts is None else ByCost(self.factor * parts.cheap, self.factor * parts.costly)

    @property
    def established(self) -> tuple[str, ...]:
        return self.inner.established if self.factor > 0 else self.kind.established

    @property
    def reweighting(self) -> str | None:
        return self.inner.reweighting

    def holonomy_density(self, links: Tensor, angles: Tensor) -> Tensor | None:
        density = self.inner.holonomy_density(links, angles) if self.factor > 0 else None
        return None if density is None else density**self.factor

    def own_observables(self) -> tuple[Observable, ...]:
        return self.inner.own_observables()

    @property
    def words(self) -> Words:
        inner = self.inner.words
        return Words(f"{_plain(self.factor)} × {inner.name}", inner.parameters)

    def __call__(self, x: Tensor) -> LogProb:
        return self.factor * self.inner(x)

    def force(self, x: Tensor) -> Tensor:
        return self.factor * self.inner.force(x)

    def evaluate(self, x: Tensor) -> Evaluation:
        value, force, field = self.inner.evaluate(x)
        return Evaluation(self.factor * value, self.factor * force, field)

    def coordinates(self, field: Tensor) -> Tensor:
        return self.inner.coordinates(field)

    def nearest_neighbours(self) -> NearestNeighbours | None:
        inner = self.inner.nearest_neighbours()
        return None if inner is None else inner.scaled(self.factor)

    def coupled_sites(self) -> CoupledSites | None:
        inner = self.inner.coupled_sites()
        return None if inner is None else inner.scaled(self.factor)

    def growth(self) -> Growth | None:
        growth = self.inner.growth()
        return None if growth is None else growth.scaled(self.factor)

    def check_proper(self) -> None:
        """As of any action; of real numbers that say nothing more, no factor of zero or below is proper.

        Where exp(−S) has an integral over all real numbers, exp(S) has none.
        """
        if self.growth() is not None:
            super().check_proper()
            return
        self.inner.check_proper()
        manifold = self.kind.manifold
        if self.factor <= 0 and manifold is not None and manifold.flat:
            raise ValueError(
                f"exp(−S) cannot be normalised: expected a factor above 0 of {self.inner.words.name}, got "
                f"{self.factor:g}"
            )


def _is_float(annotation: Any) -> bool:
    """Whether an argument is a real number: float, or float with bounds, as `types.Positive`."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation in (float, "float")


def _cheap_and_costly(action: Action) -> tuple[list[Action], list[Action]]:
    """What of an action is cheap, and what costly: one of each at most."""
    if (parts := action.by_cost()) is not None:
        return [parts.cheap], [parts.costly]
    return ([], [action]) if action.costly else ([action], [])


def check_finite(**numbers: float) -> None:
    """Refuse parameters that are not finite.

    Raises:
        ValueError: naming the first of them.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise ValueError(f"expected a finite {name}, got {value}")


def _unequal(
    observable: Observable, mine: Mapping[str, Observable], theirs: Mapping[str, Observable]
) -> Observable:
    """An observable of a sum, whose sectors are equally probable only where both parts say so."""
    said = [part[observable.name].sectors if observable.name in part else None for part in (mine, theirs)]
    if observable.sectors is None or all(one is not None and one.equal is not None for one in said):
        return observable
    return dataclasses.replace(observable, sectors=dataclasses.replace(observable.sectors, equal=None))


def _plain(value: Any) -> str:
    return (f"{value:g}" if isinstance(value, float) else str(value)).replace("-", "−")
