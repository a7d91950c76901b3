"""Weights of single sites in the fields of their neighbours: spins and real numbers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float, Num
from torch import Generator, Tensor
from torch.nn import functional

from latflow.theories.line import Grid
from latflow.theories.staircase import Staircases

Numbers = Float[Tensor, "*any"]
"""One number a site, in any shape."""


class SiteWeight(ABC):
    """The weight of one site in a field h, exp(−V(x) + h·e(x)), with log z(h) = log ∫ dx exp(−V(x) + h·e(x)).

    A number x is its own vector e(x), and h a number as well. Of sites that are coupled as vectors, e and h
    have their components along a first axis.
    """

    even: bool
    """Whether sites are numbers with V(−x) = V(x)."""
    shape: tuple[int, ...] = ()
    """Of e(x): none of a number, else how many components there are."""

    @property
    def symmetries(self) -> tuple[str, ...]:
        """Those of V and all e(x)·e(y) under one change of all sites, by their names in the kind of field."""
        return ("z2",) if self.even else ()

    def vector(self, x: Tensor) -> Tensor:
        """e(x), (*shape, …)."""
        return x

    def value(self, vector: Tensor) -> Tensor:
        """The x of e(x)."""
        return vector

    @abstractmethod
    def potential(self, x: Numbers) -> Numbers:
        """V(x)."""

    @abstractmethod
    def log_partition(self, h: Numbers) -> Numbers:
        """log z(h), in the precision of h."""

    @abstractmethod
    def draw(self, h: Numbers, generator: Generator) -> Numbers:
        """x from exp(−V(x) + h·e(x)) / z(h), one for each h."""

    @abstractmethod
    def scaled(self, factor: float, neighbours: float) -> "SiteWeight":
        """That with factor · V, where the couplings to all neighbours add up to so much."""

    def log_prob(self, x: Num[Tensor, "*any"], h: Float[Tensor, "..."]) -> Numbers:
        """−V(x) + h·e(x) − log z(h)."""
        product = h * self.vector(x)
        return (product.sum(0) if self.shape else product) - self.potential(x) - self.log_partition(h)


@dataclass(frozen=True)
class SpinWeight(SiteWeight):
    """Spins s = ±1 in an external field: V(s) = −H s, z(h) = 2 cosh(h + H).

    Args:
        field: H.
    """

    field: float = 0.0

    @property
    def even(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.field == 0

    def potential(self, x: Numbers) -> Numbers:
        return -self.field * x

    def log_partition(self, h: Numbers) -> Numbers:
        size = (h + self.field).abs()
        return size + functional.softplus(-2 * size)

    def draw(self, h: Numbers, generator: Generator) -> Numbers:
        uniform = torch.rand(h.shape, generator=generator, dtype=torch.float64, device=h.device)
        return torch.where(torch.logit(uniform) < 2 * (h + self.field), 1.0, -1.0).to(h.dtype)

    def scaled(self, factor: float, neighbours: float) -> "SpinWeight":  # noqa: ARG002
        return SpinWeight(factor * self.field)


@dataclass(frozen=True)
class LineWeight(SiteWeight):
    """Real numbers with an even polynomial V, on |x| ≤ X, which leaves out less than rounding does.

    X is where V(x) − ½J x², the action of a site among equal ones, exceeds its lowest value by 40; J is the
    sum of the couplings to all neighbours, and fields are no larger than J X. log z comes from a table of its
    values and derivatives by cubic interpolation, right to 1e-9.

    Args:
        coefficients: v_k of V(x) = v_0 + v_2 x² + v_4 x⁴, by their powers as pairs (k, v_k).
        neighbours: J.

    Raises:
        ValueError: for an odd power, and where the action of equal sites has no lowest value.
    """

    coefficients: tuple[tuple[int, float], ...]
    neighbours: float
    even = True

    def __post_init__(self) -> None:
        if any(power % 2 for power, _ in self.coefficients):
            raise ValueError(f"expected even powers, got {dict(self.coefficients)}")
        self.cut  # noqa: B018 (refuses what has no lowest value)

    @classmethod
    def of(cls, coefficients: Mapping[int, float], neighbours: float) -> "LineWeight":
        """That of v_k by k."""
        return cls(tuple(sorted(coefficients.items())), neighbours)

    def potential(self, x: Numbers) -> Numbers:
        squared, total = x * x, torch.zeros_like(x)
        by_power = dict(self.coefficients)
        for power in range(max(by_power), -1, -2):
            total = total * squared + by_power.get(power, 0.0)
        return total

    @cached_property
    def cut(self) -> float:
        """X."""
        x = torch.logspace(-4, 4, 80_001, dtype=torch.float64)
        among_equals = self.potential(x) - abs(self.neighbours) / 2 * x * x
        above = among_equals - among_equals.min()
        if above[-1] < _NEGLIGIBLE:
            raise ValueError(
                f"expected a potential that holds a field of equal sites, got the coefficients "
                f"{dict(self.coefficients)} beside couplings of {self.neighbours:g}"
            )
        return float(x[(above < _NEGLIGIBLE).nonzero()[-1] + 1])

    @cached_property
    def grid(self) -> Grid:
        """Nodes which resolve the weight in every field that occurs."""
        fine = Grid(self.cut, 1601)
        fields = torch.linspace(0, abs(self.neighbours) * self.typical * 2, 41, dtype=torch.float64)
        exact = fine.log_normalisation(self.log_weights(fine, fields))
        for nodes in range(24, 1600, 4):
            coarse = Grid(self.cut, nodes)
            if (coarse.log_normalisation(self.log_weights(coarse, fields)) - exact).abs().max() < 1e-8:
                return coarse
        return fine

    @cached_property
    def typical(self) -> float:
        """√⟨x²⟩ without field, or where V + ½J x² of equal sites is lowest, whichever is larger."""
        x = torch.linspace(0, self.cut, 4001, dtype=torch.float64)
        weight = torch.exp(self.potential(x).min() - self.potential(x))
        lowest = x[(self.potential(x) - abs(self.neighbours) / 2 * x * x).argmin()]
        return max(math.sqrt(float((weight * x * x).sum() / weight.sum())), float(lowest))

    def log_weights(self, grid: Grid, h: Float[Tensor, "columns"]) -> Float[Tensor, "nodes columns"]:
        """−V(x) + h x at the nodes."""
        x = grid.x.to(h)
        return x[:, None] * h - self.potential(x)[:, None]

    @cached_property
    @torch.inference_mode(False)
    def _table(self) -> tuple[float, Tensor]:
        """Step of h, and between equidistant h the coefficients of log z by powers of t, (entries, 4)."""
        largest = max(abs(self.neighbours), 1e-6) * self.cut
        entries = 2 * math.ceil(200 * largest * self.typical) + 1
        h, fine = torch.linspace(-largest, largest, entries, dtype=torch.float64), Grid(self.cut, 401)
        log_p = self.log_weights(fine, h)
        slope = (fine.probabilities(log_p) * fine.x[:, None]).sum(0) * 2 * largest / (entries - 1)
        value = fine.log_normalisation(log_p)
        (a, b), (da, db) = ((each[:-1], each[1:]) for each in (value, slope))
        cubic = torch.stack((a, da, 3 * (b - a) - 2 * da - db, 2 * (a - b) + da + db), 1)
        return 2 * largest / (entries - 1), cubic

    def log_partition(self, h: Numbers) -> Numbers:
        step, table = self._table
        place = h.double() / step + len(table) / 2
        index = place.detach().long().clamp_(0, len(table) - 1)
        t = place - index
        value, slope, bend, skew = table.to(h.device).index_select(0, index.flatten()).unbind(1)
        t = t.flatten()
        cubic = torch.addcmul(value, t, torch.addcmul(slope, t, torch.addcmul(bend, t, skew)))
        return cubic.view_as(h).to(h.dtype)

    @cached_property
    def _staircases(self) -> Staircases:
        return staircases(self)

    def draw(self, h: Numbers, generator: Generator) -> Numbers:
        flat = h.flatten()
        if flat.numel() == 0 or float(flat.abs().max()) <= self._staircases.largest:
            return self._staircases.draw(flat, generator).view_as(h)

        def propose(given: dict[str, Tensor]) -> dict[str, Tensor]:
            fields = given["h"]
            log_p = self.log_weights(self.grid, fields)
            return self.grid.proposals(log_p, lambda x: fields * x - self.potential(x), given)

        return self.grid.draw(propose, {"h": flat}, {}, generator)[0].view_as(h)

    def scaled(self, factor: float, neighbours: float) -> "LineWeight":
        return LineWeight(tuple((power, factor * v) for power, v in self.coefficients), neighbours)


_NEGLIGIBLE = 40.0
"""exp(−40) = 4e-18."""


@lru_cache(maxsize=16)
def staircases(weight: LineWeight) -> Staircases:
    """For draws of a site in all fields that neighbours on |x| ≤ X make."""
    return Staircases(
        weight.potential, weight.cut, max(abs(weight.neighbours), 1e-6) * weight.cut, weight.typical
    )
