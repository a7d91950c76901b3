"""Tables of the log-odds of a spin by what is known around it, made of counts."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from latflow.densities.multilevel.loglinear import log_linear
from latflow.densities.multilevel.windows import Window, orbits

Counts = Float[Tensor, "2 _"]
"""How many observations each slot of a table has, and how many of these spins should be +1."""


class Table(nn.Module):
    """Half the log-odds of +1 by what is known around a site, the same for what is alike.

        p = (S + α p₀) / (N + α)

    with N observations, S of which should be +1, and p₀ of the log-linear model of all counts together.

    Args:
        window: what is known.
        z2: whether opposite windows have opposite log-odds, to the last bit.
    """

    values: Tensor
    theta: Tensor
    start: Tensor
    both: Tensor

    def __init__(self, window: Window, *, z2: bool) -> None:
        super().__init__()
        self.window: Window = window
        self.z2: bool = z2
        alike, sums = orbits(window, z2=z2), window.summed + 1
        self.register_buffer("values", torch.zeros(len(alike.even), sums))
        self.register_buffer("theta", torch.zeros(log_linear(window, z2=z2).size))
        self.register_buffer("start", alike.orbit * sums, persistent=False)
        self.register_buffer("both", torch.zeros(2 * self.slots), persistent=False)
        self.register_load_state_dict_post_hook(_spread)

    @property
    def slots(self) -> int:
        """How many numbers it has."""
        return self.values.numel()

    def half_log_odds(self, index: Int[Tensor, "*seen"]) -> Float[Tensor, "*seen"]:
        """c of windows with these indices."""
        return self.both.index_select(0, self._slot(index).flatten()).view(index.shape)

    def _slot(self, index: Int[Tensor, "*seen"]) -> Int[Tensor, "*seen"]:
        """Of the values, or beyond them of those of opposite spins."""
        bits = self.window.bits
        start = self.start.index_select(0, (index & (1 << bits) - 1).flatten()).view(index.shape)
        return start.add_(index >> bits)

    @torch.no_grad()
    def fit(self, counts: Counts) -> None:
        """Take over what was counted."""
        alike, model = orbits(self.window, z2=self.z2), log_linear(self.window, z2=self.z2)
        n, s = counts.double().cpu().view(2, *self.values.shape)
        even = alike.even[:, None]
        n, s = torch.where(even, (n + n.flip(1)) / 2, n), torch.where(even, (s + (n - s).flip(1)) / 2, s)
        theta = model.fitted(self.theta.double().cpu(), n, s)
        p = (s + _STRENGTH * torch.sigmoid(model.log_odds(theta))) / (n + _STRENGTH)
        odds = torch.logit(p.clamp(_RAREST, 1 - _RAREST)) / 2
        self.theta.copy_(theta)
        self.values.copy_(torch.where(even, (odds - odds.flip(1)) / 2, odds))
        self.spread()

    @torch.no_grad()
    def spread(self) -> None:
        """Lay out the values of opposite spins beside the values."""
        self.both.copy_(torch.cat((self.values, -self.values.flip(1))).flatten())

    def count(self, index: Int[Tensor, "seen"], p: Float[Tensor, "seen"]) -> Counts:
        """What windows with these indices say, where the spin should be +1 with these probabilities."""
        slot = self._slot(index)
        n = torch.bincount(slot, minlength=2 * self.slots).to(p)
        s = torch.bincount(slot, p, minlength=2 * self.slots).to(p)
        (n, turned), (s, rest) = (part.view(2, *self.values.shape) for part in (n, s))
        return torch.stack((n + turned.flip(1), s + (turned - rest).flip(1))).flatten(1)


_STRENGTH = 3000.0
"""α: so many observations the model stands for, in every slot."""

_RAREST = 1e-9
"""No spin is more certain."""


def _spread(table: nn.Module, _: Any) -> None:
    assert isinstance(table, Table)
    table.spread()
