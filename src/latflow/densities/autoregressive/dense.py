"""The masked dense network: every logit sees all earlier spins."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from latflow.densities.autoregressive.base import Conditional
from latflow.densities.autoregressive.values import Rows, Signs, Values


class CausalLinear(nn.Module):
    """A dense layer from features at earlier positions to features at each site.

        y_i = b_i + Σ_{j < i + ahead} W_ij x_j,    i = 0 … spins − 1

    Positions are those of `x`: the context and the spins for the first layer of a network, where `ahead` is
    the length of the context, and the spins for a hidden layer, where `ahead` is 1 and position i counts too.

    Args:
        spins: m, the positions that come out.
        channels_in: features at each position of the input.
        channels_out: features at each spin.
        ahead: how many positions the first spin sees.
        positions: of the input, ahead + spins − 1 or more.
        bias: whether each output has a constant.
        scale: of the initial weights, uniform in ±scale/√(their number for that output).
        generator: draws the initial weights.
    """

    mask: Tensor

    def __init__(
        self,
        spins: int,
        channels_in: int,
        channels_out: int,
        *,
        ahead: int,
        positions: int,
        bias: bool,
        generator: Generator,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.channels_in: int = channels_in
        self.channels_out: int = channels_out
        self.ahead: int = ahead
        seen = torch.arange(positions) < ahead + torch.arange(spins)[:, None]
        mask = seen.repeat_interleave(channels_out, 0).repeat_interleave(channels_in, 1)
        bound = scale / mask.sum(1, keepdim=True).clamp(min=1).sqrt()
        unit = torch.rand(mask.shape, generator=generator, device=generator.device).cpu()
        self.weight: nn.Parameter = nn.Parameter(bound * (2 * unit - 1) * mask)
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(len(mask), 1)) if bias else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Rows) -> Rows:
        """All outputs; the channels of a position follow each other."""
        y = (self.weight * self.mask) @ x
        return y if self.bias is None else y + self.bias

    def at(self, x: Rows, i: int) -> Rows:
        """The outputs at spin i, a row for each channel; positions that it does not see are not read."""
        stop = (self.ahead + i) * self.channels_in
        rows = slice(i * self.channels_out, (i + 1) * self.channels_out)
        y = self.weight[rows, :stop] @ x[:stop]
        return y if self.bias is None else y + self.bias[rows]


class DenseConditional(Conditional):
    """A masked dense network with `hidden` features at each site and a linear term beside them.

        h¹_i = tanh(W¹ (c, b_{<i})),  h^{l+1}_i = tanh(W^{l+1} h^l_{≤i}),  a_i = v_i·(c, b_{<i}) + w_i·h_{≤i}

    Features at spin i depend on earlier spins alone, so that drawing all m spins computes each of them once,
    m times less than m passes. Without biases the logits are odd: the Z₂ symmetry is exact and costs nothing,
    since sums of tanh(w·s) can approximate every odd function of spins. Source of the masks: Germain, Gregor,
    Murray, Larochelle, MADE, arXiv:1502.03509.

    Args:
        spins: m.
        context: k.
        hidden: features at each site, one number for each hidden layer.
        z2: whether there are no biases.
        generator: draws the initial weights.
        values: of a site.

    Raises:
        ValueError: for numbers that are not positive.
    """

    def __init__(
        self,
        spins: int,
        context: int,
        hidden: Sequence[int],
        *,
        z2: bool,
        generator: Generator,
        values: Values | None = None,
    ) -> None:
        super().__init__()
        if spins < 1 or context < 0 or any(width < 1 for width in hidden):
            raise ValueError(f"expected positive numbers, got {spins=}, {context=}, {hidden=}")
        self.spins: int = spins
        self.context: int = context
        self.widths: tuple[int, ...] = tuple(hidden)
        self.values: Values = values or Signs()
        n_in, n_out = self.values.features, self.values.outputs
        early = {"ahead": context, "positions": context + spins, "bias": not z2, "generator": generator}
        late = {"ahead": 1, "positions": spins, "bias": not z2, "generator": generator}
        # near zero at first, where all configurations are equally likely
        self.direct: CausalLinear = CausalLinear(spins, n_in, n_out, scale=0.1, **early)
        self.layers: nn.ModuleList = nn.ModuleList(
            CausalLinear(
                spins, self.widths[i - 1] if i else n_in, width, scale=math.sqrt(3), **(late if i else early)
            )
            for i, width in enumerate(self.widths)
        )
        self.output: CausalLinear | None = (
            CausalLinear(spins, self.widths[-1], n_out, scale=0.1, **late) if self.widths else None
        )

    def logits(self, context: Rows, spins: Rows) -> Rows:
        known = torch.cat((context, spins))
        logits, hidden = self.direct(known), known
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        return logits if self.output is None else logits + self.output(hidden)

    def begin(self, context: Rows) -> list[Tensor]:
        """What is known of the sites, and the features of each layer as far as they are computed."""
        batch = context.shape[1]
        known = torch.cat((context, context.new_zeros(self.spins * self.values.features, batch)))
        return [known, *(context.new_empty(self.spins * width, batch) for width in self.widths)]

    def advance(self, cache: list[Tensor], i: int) -> Rows:
        logit = self.direct.at(cache[0], i)
        for number, (layer, width) in enumerate(zip(self.layers, self.widths, strict=True)):
            assert isinstance(layer, CausalLinear)
            cache[number + 1][i * width : (i + 1) * width] = torch.tanh(layer.at(cache[number], i))
        return logit if self.output is None else logit + self.output.at(cache[-1], i)

    def set(self, cache: list[Tensor], i: int, spin: Rows) -> None:
        first = (self.context + i) * len(spin)
        cache[0][first : first + len(spin)] = spin
