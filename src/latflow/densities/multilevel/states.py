"""Densities of one of q states given the logarithms of their probabilities, which a network makes."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.densities.multilevel.conditionals import Columns, Conditional, Each, Others
from latflow.densities.multilevel.symmetric import StateNetwork
from latflow.theories.neighbours import NearestNeighbours
from latflow.theories.vectors import StateWeight, drawn_state


class StateConditional(Conditional):
    """States by logarithms c_a of their probabilities up to a constant, which are known for the exact one.

        q(a) = exp(c_a)/Σ_b exp(c_b),    c_a = H_a + Σ_j log[1 + (e^J − 1) P_j(a)] for p(a | s_j)

    with P_j(a) ∝ exp(J s_{ja} + H_a) the probabilities of the odd neighbour j without the site.
    """

    def __init__(self, theory: NearestNeighbours) -> None:
        super().__init__(theory)
        assert isinstance(theory.site, StateWeight)
        self.site = theory.site

    def network(self, known: int, width: int, generator: Generator) -> StateNetwork:
        """The external field is one more vector that it knows."""
        return StateNetwork(known + 1, width, generator)

    def seen(self, window: Float[Tensor, "known states columns"]) -> Tensor:
        external = self.site.external(window)[:, None].expand(1, -1, window.shape[-1])
        return torch.cat((window, external))

    def draw(self, c: Columns, free: Tensor, generator: Generator) -> tuple[Each, Each]:
        x = drawn_state(c, generator)
        return x, self.log_prob(x, c, free)

    def log_prob(self, x: Each, c: Columns, free: Tensor) -> Each:  # noqa: ARG002
        return torch.log_softmax(c.double(), 0).gather(0, x[None])[0]

    def draw_exactly(self, s: Others, generator: Generator) -> tuple[Each, Each]:
        return self.draw(self.log_probabilities(s), s, generator)

    def log_prob_exactly(self, x: Each, s: Others) -> Each:
        return self.log_prob(x, self.log_probabilities(s), s)

    @torch.no_grad()
    def labels(self, s: Others) -> Columns:
        """The probabilities of the states."""
        return torch.softmax(self.log_probabilities(s), 0)

    def cross_entropy(self, labels: Columns, c: Columns, free: Tensor) -> Each:  # noqa: ARG002
        return torch.logsumexp(c, 0) - (labels * c).sum(0)

    def log_probabilities(self, s: Others) -> Columns:
        """c of p(a | s), (states, columns)."""
        external = self.site.external(s)
        beside = torch.softmax(self.theory.coupling * s + external[:, None], 1)
        gains = torch.log1p(math.expm1(self.theory.coupling) * beside)
        return gains.sum(0) + external[:, None]
