"""A kind of field, a theory, a model and a sampler that latflow does not know, for the test of its seams.

Unit vectors in the plane, one a site, in a field along the first direction: every number is known.
"""

import math
from dataclasses import dataclass

import torch
from scipy.special import i0, i1
from torch import Generator, Tensor, nn

from latflow.fields import FieldKind, Manifold
from latflow.measurement import Measurement
from latflow.observables import Observable
from latflow.samplers import Sampler
from latflow.theories import Action
from latflow.types import Lattice, NotNegative, Positive


class Circles(Manifold):
    """Vectors (batch, 2, *lattice) of length one: they move along great circles."""

    linear = False

    def move(self, x: Tensor, tangent: Tensor, step: float | Tensor = 1.0) -> Tensor:
        """Rotate each vector; a tangent is one number a site, its angular velocity."""
        angle = step * tangent
        cosine, sine = torch.cos(angle), torch.sin(angle)
        a, b = x.unbind(1)
        return torch.stack((cosine * a - sine * b, sine * a + cosine * b), 1)

    def canonical(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True)

    def project(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Along (−b, a), the derivative of the rotation."""
        a, b = x.unbind(1)
        return gradient[:, 1] * a - gradient[:, 0] * b

    def pairing(self, x: Tensor, tangent: Tensor) -> Tensor:
        a, b = x.unbind(1)
        return (tangent * (a.detach() * b - b.detach() * a)).flatten(1).sum(1)

    def tangent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[1:]


@dataclass(frozen=True)
class UnitVectors(FieldKind):
    """The toy kind."""

    name = "unit vectors"
    manifold = Circles()

    def shape(self, lattice: Lattice) -> tuple[int, ...]:
        return (2, *lattice)

    def start(self, lattice: Lattice, n: int, generator: Generator, dtype: torch.dtype) -> Tensor:
        angle = (
            2 * math.pi * torch.rand(n, *lattice, generator=generator, device=generator.device, dtype=dtype)
        )
        return torch.stack((angle.cos(), angle.sin()), 1)

    def observables(self, lattice: Lattice) -> tuple[Observable, ...]:  # noqa: ARG002 (the same on all)
        return (
            Observable(
                "alignment",
                "⟨n₁⟩",
                lambda x: x[:, 0].flatten(1).mean(1),
                slow=True,
                shown=("history", "histogram"),
            ),
            Observable("transverse", "⟨n₂⟩", lambda x: x[:, 1].flatten(1).mean(1), odd=True),
        )


@dataclass(frozen=True)
class InField(Action):
    """S = −h Σ_x n₁(x): exp(−S) dθ is a product of von Mises densities."""

    lattice: Lattice
    h: NotNegative
    kind = UnitVectors()

    def __call__(self, x: Tensor) -> Tensor:
        return -self.h * x[:, 0].flatten(1).sum(1)

    def known(self) -> dict[str, Measurement]:
        sites = math.prod(self.lattice)
        alignment = i1(self.h) / i0(self.h)
        return {
            "log_z": Measurement(sites * math.log(2 * math.pi * i0(self.h)), 0.0),
            "alignment": Measurement(alignment, 0.0),
            "transverse": Measurement(0.0, 0.0),
            "action_density": Measurement(-self.h * alignment, 0.0),
        }


class WrappedCauchy(nn.Module):
    """Independent angles θ = 2 atan[(1−r)/(1+r) tan(u/2)], u uniform: q(θ) = (1−r²)/(2π(1 + r² − 2r cos θ)).

    Args:
        lattice: side lengths.
        start: r before the training.
    """

    def __init__(self, lattice: Lattice, start: Positive = 0.1) -> None:
        super().__init__()
        self.lattice = tuple(lattice)
        self.logit = nn.Parameter(torch.logit(torch.tensor(float(start))))

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        shape = (n, *self.lattice)
        unit = torch.rand(shape, generator=generator, device=self.logit.device, dtype=self.logit.dtype)
        r = torch.sigmoid(self.logit)
        angle = 2 * torch.atan((1 - r) / (1 + r) * torch.tan(math.pi * (unit - 0.5)))
        x = torch.stack((angle.cos(), angle.sin()), 1)
        return x, self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        r = torch.sigmoid(self.logit)
        density = (1 - r**2) / (2 * math.pi * (1 + r**2 - 2 * r * x[:, 0]))
        return density.log().flatten(1).sum(1)


@dataclass(frozen=True)
class RotationState:
    """The vectors of each chain and their action."""

    x: Tensor
    action: Tensor


@dataclass(frozen=True)
class RotationInfo:
    """Whether each chain moved."""

    accepted: Tensor


@dataclass(frozen=True)
class Rotations(Sampler[RotationState, RotationInfo]):
    """All vectors of a chain turn by angles of their own, accepted or rejected together.

    Args:
        action: of unit vectors.
        width: standard deviation of an angle.
    """

    action: Action
    width: Positive = 0.5
    title = "rotations"
    step_words = "one rotation of all vectors"

    def init(self, x: Tensor) -> RotationState:
        return RotationState(x, self.action(x))

    def step(self, state: RotationState, generator: Generator) -> tuple[RotationState, RotationInfo]:
        shape = (len(state.x), *state.x.shape[2:])
        angle = torch.randn(shape, generator=generator, dtype=state.x.dtype, device=state.x.device)
        x = Circles().move(state.x, angle, self.width)
        action = self.action(x)
        uniform = torch.rand(len(x), generator=generator, dtype=torch.float64, device=x.device)
        accepted = uniform.log() < state.action - action
        chosen = accepted.view(-1, *[1] * (x.ndim - 1))
        new = RotationState(torch.where(chosen, x, state.x), torch.where(accepted, action, state.action))
        return new, RotationInfo(accepted)

    def field(self, state: RotationState) -> Tensor:
        return state.x

    def state_from_dict(self, tree: dict) -> RotationState:
        return RotationState(**tree)
