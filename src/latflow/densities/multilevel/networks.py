"""Networks that turn the known sites around a site into coefficients of its density."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional


class SiteNetwork(nn.Module, ABC):
    """Turns what is known around each of many sites into coefficients of their densities.

    Attributes:
        width: of its layers.
        formula: the coefficients by `weights` and by what is known.
        free: numbers that are the same at all sites.
    """

    width: int
    formula: Callable[[Any, Tensor], Tensor]
    free: Tensor

    @property
    @abstractmethod
    def weights(self) -> Any:
        """All its numbers, a named tuple of tensors that ends with `free`."""

    def forward(self, seen: Float[Tensor, "known *components columns"]) -> Float[Tensor, "_ columns"]:
        """The coefficients of each site."""
        return self.formula(self.weights, seen)


class WindowNetwork(SiteNetwork):
    """Two layers on a window w of known sites; where it has the Z₂ symmetry, exactly.

        o = g(w W₁),  q = (w W₁′)²,  e = q/(1 + q),  g(a) = a/√(1 + a²)
        o′ = g(o W₂) · (e W₂″ + b″),  e′ = silu(e W₂′ + b′)
        odd coefficients = o′ W₃ + w U,  even coefficients = e′ W₃′ + b

    so that w → −w changes the sign of the odd coefficients to the last bit, and leaves the even ones, which
    come after them. Without the symmetry o and e see a constant 1 beside the window, and all coefficients
    come from both.

    Args:
        window: known sites.
        odd: coefficients that change their sign with the field.
        even: coefficients that do not.
        free: numbers that are the same for all windows.
        width: of each layer.
        z2: whether it has the symmetry.
        generator: draws the initial weights.
    """

    def __init__(
        self, window: int, odd: int, even: int, free: int, width: int, *, z2: bool, generator: Generator
    ) -> None:
        super().__init__()
        self.odd: int = odd
        self.even: int = even
        self.width: int = width
        self.formula: partial[Tensor] = partial(coefficients, z2=z2)
        seen = window if z2 else window + 1

        def weights(outputs: int, inputs: int, size: float = 1.0) -> nn.Parameter:
            numbers = torch.randn(outputs, inputs, generator=generator, device=generator.device)
            return nn.Parameter(numbers * (size / math.sqrt(max(inputs, 1))))

        def constant(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value, device=generator.device))

        self.first_odd: nn.Parameter = weights(width, seen)
        self.first_even: nn.Parameter = weights(width, seen)
        self.second_odd: nn.Parameter = weights(width, width)
        self.second_even: nn.Parameter = weights(width, width)
        self.gate: nn.Parameter = weights(width, width)
        self.gate_bias: nn.Parameter = constant(1.0, width, 1)
        self.even_bias: nn.Parameter = constant(0.0, width, 1)
        inputs = width if z2 else 2 * width
        self.to_odd: nn.Parameter = weights(odd, inputs, 0.1)
        self.to_even: nn.Parameter = weights(even, inputs, 0.1)
        self.linear: nn.Parameter = constant(0.0, odd, seen)
        self.bias: nn.Parameter = constant(0.0, even, 1)
        self.free: nn.Parameter = constant(0.0, free)

    @property
    def weights(self) -> "Weights":
        """All its numbers."""
        return Weights(*(getattr(self, name) for name in Weights._fields))


class CoupledNetwork(SiteNetwork):
    """A network for a range of couplings: each of its numbers is a polynomial of their position t.

        W(t) = Σ_k P_k(t) W_k

    At one t it is a network as that for one theory, with its symmetry and at its cost.

    Args:
        network: its numbers are W_0, with P_0 = 1, and the other W_k are 0; one for a range hands over its
            own W_k, which both then share.
        terms: P_k(t).
    """

    def __init__(self, network: SiteNetwork, terms: Sequence[float]) -> None:
        super().__init__()
        self.width: int = network.width
        self.formula: Callable[..., Tensor] = network.formula
        if isinstance(network, CoupledNetwork):
            self.made, self.shapes, self.numbers = network.made, network.shapes, network.numbers
        else:
            self.made: type = type(network.weights)
            self.shapes: list[Any] = [one.shape for one in network.weights]
            first = torch.cat([one.detach().flatten() for one in network.weights])
            zeros = first.new_zeros(len(terms) - 1, len(first))
            self.numbers: nn.Parameter = nn.Parameter(torch.cat((first[None], zeros)))
        self.terms: tuple[float, ...] = tuple(terms)

    @property
    def weights(self) -> Any:
        """W(t)."""
        parts = self._at(self.numbers).split([shape.numel() for shape in self.shapes])
        return self.made(*(part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)))

    @property
    def free(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The numbers that are the same at all sites."""
        return self._at(self.numbers[:, self.numbers.shape[1] - self.shapes[-1].numel() :])

    def _at(self, numbers: Float[Tensor, "terms some"]) -> Float[Tensor, "some"]:
        """Σ_k P_k(t) W_k, by sums, which stay in their precision where products of matrices are lowered."""
        return reduce(add, (term * w for term, w in zip(self.terms, numbers, strict=True)))


class Weights(NamedTuple):
    """The numbers of a network: W₁, W₁′, W₂, W₂′, W₂″, b″, b′, W₃, W₃′, U, b of `WindowNetwork`, and f."""

    first_odd: Tensor
    first_even: Tensor
    second_odd: Tensor
    second_even: Tensor
    gate: Tensor
    gate_bias: Tensor
    even_bias: Tensor
    to_odd: Tensor
    to_even: Tensor
    linear: Tensor
    bias: Tensor
    free: Tensor


def coefficients(
    weights: Weights, window: Float[Tensor, "known columns"], *, z2: bool
) -> Float[Tensor, "coefficients columns"]:
    """The odd coefficients of each window, then the even ones, by the formulas of `WindowNetwork`."""
    if not z2:
        window = torch.cat((window, window.new_ones(1, window.shape[1])))
    squared = (weights.first_even @ window).square()
    o, e = bounded(weights.first_odd @ window), squared / (1 + squared)
    o = bounded(weights.second_odd @ o) * torch.addmm(weights.gate_bias, weights.gate, e)
    e = functional.silu(torch.addmm(weights.even_bias, weights.second_even, e))
    if not z2:
        o = e = torch.cat((o, e))
    odd = torch.addmm(weights.to_odd @ o, weights.linear, window)
    return torch.cat((odd, torch.addmm(weights.bias, weights.to_even, e)))


def bounded(a: Tensor) -> Tensor:
    """a/√(1 + a²), odd to the last bit like tanh, at a tenth of its time."""
    return a * a.square().add_(1).rsqrt_()
