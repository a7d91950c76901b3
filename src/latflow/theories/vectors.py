"""Sites that are coupled as vectors: one of q states, and angles in a plane."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional

from latflow.lattice import wrapped
from latflow.theories.sites import Numbers, SiteWeight

Chosen = Int[Tensor, "*any"]
"""One state a site, in any shape."""

Vectors = Float[Tensor, "components *any"]
"""One vector a site, its components first."""


@dataclass(frozen=True)
class StateWeight(SiteWeight):
    """One of q states a = 0 … q−1 in an external field: V(a) = −H_a, z(h) = Σ_a exp(h_a + H_a).

    The vector of a state has one component 1, and e(a)·e(b) = δ(a, b).

    Args:
        fields: H of each state.
    """

    fields: tuple[float, ...]
    even = False

    @property
    def shape(self) -> tuple[int]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (len(self.fields),)

    @property
    def symmetries(self) -> tuple[str, ...]:
        return ("renaming",) if len(set(self.fields)) == 1 else ()

    def vector(self, x: Chosen) -> Vectors:
        return functional.one_hot(x, len(self.fields)).movedim(-1, 0).double()

    def value(self, vector: Vectors) -> Chosen:
        return vector.argmax(0)

    def external(self, like: Tensor) -> Float[Tensor, "components"]:
        return torch.tensor(self.fields, dtype=like.dtype, device=like.device)

    def potential(self, x: Chosen) -> Numbers:
        return -torch.tensor(self.fields, dtype=torch.float64, device=x.device)[x]

    def log_partition(self, h: Vectors) -> Numbers:
        return torch.logsumexp(self._total(h), 0)

    def draw(self, h: Vectors, generator: Generator) -> Chosen:
        return drawn_state(self._total(h), generator)

    def scaled(self, factor: float, neighbours: float) -> "StateWeight":  # noqa: ARG002
        return StateWeight(tuple(factor * h for h in self.fields))

    def _total(self, h: Vectors) -> Vectors:
        return h + self.external(h).view(-1, *[1] * (h.ndim - 1))


def drawn_state(log_p: Vectors, generator: Generator) -> Chosen:
    """One state a with probability ∝ exp(log p_a), for each column."""
    reached = torch.softmax(log_p.double(), 0).cumsum(0)
    uniform = torch.rand(reached.shape[1:], generator=generator, dtype=torch.float64, device=reached.device)
    return (reached[:-1] <= uniform).sum(0)


@dataclass(frozen=True)
class AngleWeight(SiteWeight):
    """Angles θ in an external field along θ = 0: V(θ) = −H cos θ, z(h) = ∫dθ exp(…) = 2π I_0(|h + H|).

    The vector of an angle is (cos θ, sin θ), and H the vector (H, 0).

    Args:
        field: H.
    """

    field: float = 0.0
    even = False
    shape = (2,)

    @property
    def symmetries(self) -> tuple[str, ...]:
        return ("z2",) if self.field else ("u1", "z2")

    def vector(self, x: Numbers) -> Vectors:
        return torch.stack((x.cos(), x.sin()))

    def value(self, vector: Vectors) -> Numbers:
        return wrapped(torch.atan2(vector[1], vector[0]))

    def external(self, like: Tensor) -> Float[Tensor, "components"]:
        return torch.tensor((self.field, 0.0), dtype=like.dtype, device=like.device)

    def potential(self, x: Numbers) -> Numbers:
        return -self.field * x.cos()

    def log_partition(self, h: Vectors) -> Numbers:
        # the smallest numbers keep the gradient finite at h = 0
        length = torch.sqrt((h[0] + self.field) ** 2 + h[1] ** 2 + torch.finfo(h.dtype).tiny)
        return length + torch.log(2 * math.pi * torch.special.i0e(length))

    def draw(self, h: Vectors, generator: Generator) -> Numbers:
        """By rejection from a wrapped Cauchy density, in float64.

        Source: Best, Fisher, Efficient simulation of the von Mises distribution, Applied Statistics 28 (1979)
        152.
        """
        along, across = h[0].double() + self.field, h[1].double()
        size = torch.hypot(along, across)
        cosine = _cosines(size.flatten().clamp(min=_WEAKEST), generator).view_as(size)
        sign = torch.rand(size.shape, generator=generator, dtype=torch.float64, device=h.device) < 0.5
        turn = torch.acos(cosine.clamp(-1, 1))
        return wrapped((torch.atan2(across, along) + torch.where(sign, turn, -turn)).to(h.dtype))

    def scaled(self, factor: float, neighbours: float) -> "AngleWeight":  # noqa: ARG002
        return AngleWeight(factor * self.field)


_WEAKEST = 1e-6
"""Of a field by which angles are drawn: the density is that of a weaker one to rounding of float32."""


def _cosines(size: Float[Tensor, "columns"], generator: Generator) -> Float[Tensor, "columns"]:
    """cos δ of the density exp(κ cos δ), for each κ."""
    root = 1 + torch.sqrt(1 + 4 * size * size)
    rho = (root - torch.sqrt(2 * root)) / (2 * size)
    r = (1 + rho * rho) / (2 * rho)
    found, left = torch.empty_like(size), torch.arange(len(size), device=size.device)
    while len(left):
        both = torch.rand(2, len(left), generator=generator, dtype=torch.float64, device=size.device)
        z = torch.cos(math.pi * both[0])
        cosine = (1 + r * z) / (r + z)
        excess = size * (r - cosine)
        kept = torch.log(excess / both[1]) + 1 - excess >= 0
        found[left[kept]] = cosine[kept]
        left, size, r = (one[~kept] for one in (left, size, r))
    return found
