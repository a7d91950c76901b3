"""Networks that turn the known sites around a site into coefficients of its density."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional


class WindowNetwork(nn.Module):
    """Two layers on a window w of known sites; where it has the Z₂ symmetry, exactly.

        o = g(w W₁),  q = (w W₁′)²,  e = q/(1 + q),  g(a) = a/√(1 + a²)
        o′ = g(o W₂) · (e W₂″ + b″),  e′ = silu(e W₂′ + b′)
        odd coefficients = o′ W₃ + w U,  even coefficients = e′ W₃′ + b

    so that w → −w changes the sign of the odd coefficients to the last bit, and leaves the even ones. Without
    the symmetry o and e see a constant 1 beside the window, and all coefficients come from both.

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
        self.window, self.odd, self.even, self.width, self.z2 = window, odd, even, width, z2
        seen = window if z2 else window + 1

        def weights(outputs: int, inputs: int, size: float = 1.0) -> nn.Parameter:
            numbers = torch.randn(outputs, inputs, generator=generator, device=generator.device)
            return nn.Parameter(numbers * (size / math.sqrt(max(inputs, 1))))

        def constant(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value, device=generator.device))

        self.first_odd, self.first_even = weights(width, seen), weights(width, seen)
        self.second_odd, self.second_even = weights(width, width), weights(width, width)
        self.gate, self.gate_bias = weights(width, width), constant(1.0, width, 1)
        self.even_bias = constant(0.0, width, 1)
        inputs = width if z2 else 2 * width
        self.to_odd, self.to_even = weights(odd, inputs, 0.1), weights(even, inputs, 0.1)
        self.linear, self.bias = constant(0.0, odd, seen), constant(0.0, even, 1)
        self.free = constant(0.0, free)

    def forward(self, window: Float[Tensor, "known columns"]) -> Float[Tensor, "coefficients columns"]:
        """The odd coefficients, then the even ones."""
        if not self.z2:
            window = torch.cat((window, window.new_ones(1, window.shape[1])))
        squared = (self.first_even @ window).square()
        o, e = _bounded(self.first_odd @ window), squared / (1 + squared)
        o = _bounded(self.second_odd @ o) * torch.addmm(self.gate_bias, self.gate, e)
        e = functional.silu(torch.addmm(self.even_bias, self.second_even, e))
        if not self.z2:
            o = e = torch.cat((o, e))
        odd = torch.addmm(self.to_odd @ o, self.linear, window)
        return torch.cat((odd, torch.addmm(self.bias, self.to_even, e)))


def _bounded(a: Tensor) -> Tensor:
    """a/√(1 + a²), odd to the last bit like tanh, at a tenth of its time."""
    return a * torch.rsqrt(a.square() + 1)
