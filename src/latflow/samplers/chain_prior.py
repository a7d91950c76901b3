"""Markov chains that keep running, as the source of draws of a prior."""

import math

import torch
from torch import Generator, Tensor, nn

from latflow.samplers.base import Sampler


class RunningChains(nn.Module):
    """Configurations of a theory from chains that go on from call to call: a `densities.flows` source.

    The draws follow exp(−S) as well as the chains do: those of one call come from different chains as far as
    these reach, then from the same ones `spacing` steps on, and so do later calls. `spacing` should be a few
    autocorrelation times of the slowest observable; `description` says what was chosen.

    Where the chains stand is the buffer `chains`, which is stored with the weights of a flow whose prior they
    feed. Each call puts a new tensor in its place: what `state_dict` gave before stays as it was.

    Args:
        sampler: of exp(−S): HMC, or HMC through a flow of its own.
        start: where the chains start, (chains, *field), with their precision; 2^d and more chains keep the
            fields that `Interleaved` puts together independent.
        spacing: steps of every chain between two draws, at least one.
        thermalisation: steps before the first draw.

    Raises:
        ValueError: without a chain, and for numbers of steps that are too small.
    """

    chains: Tensor
    thermalised: Tensor

    def __init__(self, sampler: Sampler, start: Tensor, *, spacing: int, thermalisation: int) -> None:
        super().__init__()
        if not len(start):
            raise ValueError(f"expected start (chains, *field), got {tuple(start.shape)}")
        if spacing < 1 or thermalisation < 0:
            raise ValueError(
                f"expected spacing ≥ 1 and thermalisation ≥ 0, got {spacing} and {thermalisation}"
            )
        self.sampler = sampler
        self.spacing: int = spacing
        self.thermalisation: int = thermalisation
        self.register_buffer("chains", start.detach().clone())
        self.register_buffer("thermalised", torch.zeros((), dtype=torch.bool))

    @property
    def description(self) -> str:
        """How the draws are made independent, for a report."""
        words = self.sampler.title or type(self.sampler).__name__
        return (
            f"{len(self.chains)} chains of {words}, a draw of each every "
            f"{self.spacing} steps after {self.thermalisation} of thermalisation"
        )

    @torch.no_grad()
    def forward(self, n: int, generator: Generator) -> Tensor:
        """n draws, (n, *field); the chains make `spacing` steps for each n/chains of them, rounded up."""
        state = self.sampler.init(self.chains)
        waiting = 0 if self.thermalised else self.thermalisation
        draws = []
        for _ in range(math.ceil(n / len(self.chains))):
            for _ in range(waiting + self.spacing):
                state, _ = self.sampler.step(state, generator)
            waiting = 0
            draws.append(self.sampler.field(state))
        if draws:
            self.chains, self.thermalised = draws[-1].clone(), torch.ones_like(self.thermalised)
        return torch.cat([self.chains[:0], *draws])[:n]
