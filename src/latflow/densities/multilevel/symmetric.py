"""Networks on windows of vectors that commute with what a theory's states or angles may be changed by."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from latflow.densities.multilevel.networks import SiteNetwork, bounded

Seen = Float[Tensor, "known components columns"]
"""The vectors of the known sites around each site."""


class SetWeights(NamedTuple):
    """The numbers of a network: W₁, b₁, W₂, W₂′, b₂, W₃, U of `StateNetwork`, with none for all windows."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    pooled: Tensor
    second_bias: Tensor
    out: Tensor
    linear: Tensor
    free: Tensor


class StateNetwork(SiteNetwork):
    """One coefficient for each of q states, by one function of all, which does not know their names.

    With v_a the component a of all known sites, less its mean over a,

        o_a = g(W₁ v_a + b₁),    g(t) = t/√(1 + t²),    m = q⁻¹ Σ_a o_a
        c_a = W₃ silu(W₂ o_a + W₂′ m + b₂) + U v_a

    so that other names of the states are other names of the coefficients.

    Args:
        window: known vectors.
        width: of each layer.
        generator: draws the initial weights.
    """

    def __init__(self, window: int, width: int, generator: Generator) -> None:
        super().__init__()
        self.width: int = width
        self.formula: Callable[..., Tensor] = of_states
        _layers(self, window, width, 1, generator)
        self.linear: nn.Parameter = nn.Parameter(torch.zeros(1, window, device=generator.device))

    @property
    def weights(self) -> SetWeights:
        return SetWeights(*(getattr(self, name) for name in SetWeights._fields))


def of_states(weights: SetWeights, seen: Seen) -> Float[Tensor, "states columns"]:
    """The coefficients of all states, by the formulas of `StateNetwork`."""
    v = (seen - seen.mean(1, keepdim=True)).flatten(1)
    c = _of_set(weights, weights.first @ v, seen.shape[1]) + weights.linear @ v
    return c.view(seen.shape[1:])


class AngleWeights(NamedTuple):
    """The numbers of an `AngleNetwork`: w, what is as in `SetWeights`, and W₁′."""

    sums: Tensor
    first: Tensor
    first_bias: Tensor
    across: Tensor
    second: Tensor
    pooled: Tensor
    second_bias: Tensor
    out: Tensor
    free: Tensor


class AngleNetwork(SiteNetwork):
    """Fourier coefficients C_k = a_k + i b_k of the logarithm of a density of angles, by known unit vectors.

    With the vectors as complex numbers z_y, sums F_c of them, the first of which gives a direction,

        F_c = Σ_y w_{cy} z_y,    f = F_0/√(1 + |F_0|²),    A_c + i B_c = F_c f*
        o_± = g(W₁ (A, |F|²/(1 + |F|²)) ± W₁′ B + b₁),    m = ½ (o_+ + o_−)
        y_± = W₃ silu(W₂ o_± + W₂′ m + b₂)
        C_k = f^k [½ (y_+ + y_−)_k + ½ i (y_+ − y_−)_{K+k}] + δ_{k1} F_0

    so that C_k turns k times as fast as all z_y do, and becomes C_k* where these become z_y*.

    Args:
        window: known vectors.
        harmonics: K.
        width: of each layer; there are half as many sums F.
        generator: draws the initial weights.
    """

    def __init__(self, window: int, harmonics: int, width: int, generator: Generator) -> None:
        super().__init__()
        self.width: int = width
        self.formula: Callable[..., Tensor] = of_angles
        channels = max(1, width // 2)
        sums = _normal(generator, 1 + channels, window)
        sums[0] = 0
        sums[0, :_NEAREST] = _NEAREST_WEIGHT
        self.sums: nn.Parameter = nn.Parameter(sums)
        _layers(self, 2 * channels + 1, width, 2 * harmonics, generator)
        self.across: nn.Parameter = nn.Parameter(_normal(generator, width, channels))

    @property
    def weights(self) -> AngleWeights:
        return AngleWeights(*(getattr(self, name) for name in AngleWeights._fields))


_NEAREST, _NEAREST_WEIGHT = 4, 0.5
"""How many known sites, nearest first, make the direction at first."""


def of_angles(weights: AngleWeights, seen: Seen) -> Float[Tensor, "coefficients columns"]:
    """a_1 … a_K, then b_1 … b_K of each window, by the formulas of `AngleNetwork`."""
    real, imaginary = (weights.sums @ seen.flatten(1)).view(-1, *seen.shape[1:]).unbind(1)
    x, y = real[0], imaginary[0]
    scale = torch.rsqrt(1 + x * x + y * y)
    x, y = x * scale, y * scale
    a, b = real * x + imaginary * y, imaginary * x - real * y
    squared = real[1:] ** 2 + imaginary[1:] ** 2
    even = weights.first @ torch.cat((a, squared / (1 + squared)))
    odd = weights.across @ b[1:]
    plus, minus = _of_set(weights, torch.cat((even + odd, even - odd), 1), 2).chunk(2, 1)
    half = len(plus) // 2
    real_part, imaginary_part = (plus + minus)[:half] / 2, (plus - minus)[half:] / 2
    # f^k by one product after the other
    powers = [(x, y)]
    while len(powers) < half:
        u, v = powers[-1]
        powers.append((u * x - v * y, u * y + v * x))
    u, v = (torch.stack(parts) for parts in zip(*powers, strict=True))
    c, s = u * real_part - v * imaginary_part, u * imaginary_part + v * real_part
    return torch.cat((c[:1] + real[:1], c[1:], s[:1] + imaginary[:1], s[1:]))


def _layers(network: nn.Module, inputs: int, width: int, outputs: int, generator: Generator) -> None:
    """Give a network the initial numbers of its layers on a set."""
    for name, shape, size in (
        ("first", (width, inputs), 1.0),
        ("second", (width, width), 1.0),
        ("pooled", (width, width), 1.0),
        ("out", (outputs, width), 0.1),
    ):
        network.register_parameter(name, nn.Parameter(size * _normal(generator, *shape)))
    for name in ("first_bias", "second_bias"):
        network.register_parameter(name, nn.Parameter(_normal(generator, width, 1)))
    network.register_parameter("free", nn.Parameter(torch.zeros(0, device=generator.device)))


def _normal(generator: Generator, rows: int, columns: int) -> Tensor:
    """Normal numbers whose sums over a row have a variance of one."""
    numbers = torch.randn(rows, columns, generator=generator, device=generator.device)
    return numbers / math.sqrt(max(columns, 1))


def _of_set(
    weights: SetWeights | AngleWeights, first: Float[Tensor, "width columns"], elements: int
) -> Float[Tensor, "outputs columns"]:
    """y of all elements of sets, which lie one after the other, by the same function of each."""
    o = bounded(first + weights.first_bias)
    mean = o.view(len(o), elements, -1).mean(1)
    common = torch.addmm(weights.second_bias, weights.pooled, mean)
    second = (weights.second @ o).view(len(o), elements, -1) + common[:, None]
    return weights.out @ functional.silu(second).flatten(1)
