"""Autoregressive densities of spins: blocks of sites in order, each drawn given those that came before."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from latflow.lattice import checked_lattice, volume
from latflow.types import Lattice, LogProb, Spins

Rows = Float[Tensor, "_ batch"]
"""Spins, or one number for each, at a chosen sequence of sites: the site first, so that a site is a row."""


class Conditional(nn.Module, ABC):
    """The distribution of a block of m spins, one after the other, given k spins of a context.

        q(b | c) = Π_i σ(b_i a_i),   a_i = a_i(c, b_1 … b_{i−1}),   σ(a) = 1/(1 + exp(−a))

    σ(a_i) is the probability that the spin b_i is +1. Where every logit a_i is an odd function of all spins,
    a(−c, −b) = −a(c, b), the distribution has the Z₂ symmetry exactly.
    """

    spins: int
    """m, the spins of the block."""
    context: int
    """k, the spins of the context."""

    @abstractmethod
    def logits(self, context: Rows, spins: Rows) -> Rows:
        """a_1 … a_m of given spins, in one parallel pass."""

    @abstractmethod
    def begin(self, context: Rows) -> list[Tensor]:
        """What `advance` keeps from spin to spin, with the batch last: nothing in it is computed twice."""

    @abstractmethod
    def advance(self, cache: list[Tensor], i: int) -> Float[Tensor, "batch"]:
        """a_i, once spins 0 … i−1 are set."""

    @abstractmethod
    def set(self, cache: list[Tensor], i: int, spin: Float[Tensor, "batch"]) -> None:
        """Let spin i of the block be `spin`, for all later logits."""

    def draw(
        self, context: Rows, uniform: Float[Tensor, "left draws"], given: Rows | None = None
    ) -> tuple[Float[Tensor, "left draws"], Float[Tensor, "left draws"]]:
        """Spins of the block from uniform numbers u in [0, 1), b_i = +1 where u_i < σ(a_i), and their logits.

        It compares log(u/(1 − u)) < a in the precision of u, which should be float64: in float32 one in 2²⁴
        of the numbers is zero and would make any spin +1.

        Args:
            context: of each sequence.
            uniform: u, for each spin that is left to draw and each draw: draws/batch of them, one after the
                other, continue the same sequence, whose features are computed once.
            given: the first spins of each sequence; None where all are left.
        """
        cache, known = self.begin(context), 0
        if given is not None:
            known = len(given)
            for i, spin in enumerate(given):
                self.advance(cache, i)
                self.set(cache, i, spin)
            copies = uniform.shape[1] // given.shape[1]
            cache = [kept.repeat_interleave(copies, -1) for kept in cache]
        threshold, spins, logits = torch.logit(uniform), [], []
        for i in range(known, self.spins):
            logits.append(self.advance(cache, i).to(context.dtype))
            spins.append(torch.where(threshold[i - known] < logits[-1], 1.0, -1.0).to(context.dtype))
            self.set(cache, i, spins[-1])
        return torch.stack(spins), torch.stack(logits)


class Level(nn.Module):
    """Blocks of sites that are drawn at the same time, each from its context, by one conditional.

    Args:
        contexts: the sites of each block's context, numbered in raster order.
        blocks: the sites of each block, in the order in which they are drawn.
        conditional: serves all blocks, which share its weights.

    Raises:
        ValueError: when the numbers of sites are not those of the conditional.
    """

    contexts: Tensor
    blocks: Tensor

    def __init__(
        self,
        contexts: Int[Tensor, "blocks context"],
        blocks: Int[Tensor, "blocks spins"],
        conditional: Conditional,
    ) -> None:
        super().__init__()
        expected, got = (conditional.context, conditional.spins), (contexts.shape[1], blocks.shape[1])
        if expected != got or len(contexts) != len(blocks):
            raise ValueError(
                f"expected blocks with {expected[0]} sites of context and {expected[1]} spins, got tables of "
                f"shape {tuple(contexts.shape)} and {tuple(blocks.shape)}"
            )
        self.conditional = conditional
        self.register_buffer("contexts", contexts.T.contiguous(), persistent=False)
        self.register_buffer("blocks", blocks.T.contiguous(), persistent=False)

    def log_prob(self, sites: Rows) -> LogProb:
        """Σ over blocks of log q(block | context), from all spins of the lattice."""
        context, spins = sites[self.contexts].flatten(1), sites[self.blocks].flatten(1)
        return self._total(spins, self.conditional.logits(context, spins).to(sites.dtype))

    def draw(self, sites: Rows, uniform: Rows) -> LogProb:
        """Draw the blocks, write them into the spins of the lattice, and return their log-probability."""
        context = sites[self.contexts].flatten(1)
        spins, logits = self.conditional.draw(context, uniform[self.blocks].flatten(1))
        sites[self.blocks] = spins.unflatten(1, (self.blocks.shape[1], -1))
        return self._total(spins, logits)

    def _total(
        self, spins: Float[Tensor, "spins sequences"], logits: Float[Tensor, "spins sequences"]
    ) -> LogProb:
        """That of all blocks together."""
        each = log_probability(spins, logits)
        return each.unflatten(0, (self.blocks.shape[1], -1)).sum(0)


class SpinNetwork(nn.Module):
    """A density of spins on a lattice that one can draw exactly: log q(s) = Σ over levels, in their order.

    Each site belongs to one block of one level, and the context of a block lies in earlier levels. The dense
    and the convolutional network have a single level whose only block is the whole lattice in raster order;
    the hierarchical one has many. Spins are ±1 in the precision of the weights. Draws have no derivative, so
    that the estimators for this density are those which differentiate log q alone: score, reinforce,
    reinforce_leave_one_out, and forward_kl. Source: Wu, Wang, Zhang, Solving statistical mechanics using
    variational autoregressive networks, arXiv:1809.10606.

    Args:
        lattice: side lengths.
        levels: in the order in which they are drawn.
        recipe: the configuration from which a named preset built the network.

    Raises:
        ValueError: unless the blocks cover every site once.
    """

    like: Tensor

    def __init__(
        self, lattice: Sequence[int], levels: Sequence[Level], recipe: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.lattice: Lattice = checked_lattice(lattice)
        covered = torch.cat([level.blocks.flatten() for level in levels]).sort().values
        if not torch.equal(covered.cpu(), torch.arange(volume(self.lattice))):
            raise ValueError(f"expected blocks that cover each of the {volume(self.lattice)} sites once")
        self.levels = nn.ModuleList(levels)
        self.recipe = recipe
        self.register_buffer("like", torch.empty(0), persistent=False)

    @torch.no_grad()
    def sample(
        self, n: int, generator: Generator, given: Float[Tensor, "sequences rows ..."] | None = None
    ) -> tuple[Spins, LogProb]:
        """n independent draws, (n, *lattice), and log q of each, without graph.

        Args:
            n: how many, for each of the given rows if there are any.
            generator: source of the draws.
            given: the first rows a of each of several lattices, (sequences, rows, *lattice[1:]), which the
                draws continue. The draws that continue one of them follow each other, and log q is that of
                the rows that are drawn, log q(b | a).

        Raises:
            ValueError: for given rows of another lattice, or where the network does not draw row after row.
        """
        if given is not None:
            return self._continued(n, generator, given)
        shape = (volume(self.lattice), n)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=self.like.device)
        sites, log_q = self.like.new_zeros(shape), self.like.new_zeros(n)
        for level in self.levels:
            log_q = log_q + level.draw(sites, uniform)  # pyright: ignore[reportCallIssue] (a module list forgets)
        return sites.T.contiguous().unflatten(1, self.lattice), log_q

    def _continued(self, n: int, generator: Generator, given: Tensor) -> tuple[Spins, LogProb]:
        """Draws after given rows, which are the beginning of the only block."""
        rows, row = given.shape[1] if given.ndim > 1 else 0, tuple(given.shape[2:])
        if row != self.lattice[1:]:
            raise ValueError(f"expected rows of the lattice {self.lattice}, got {tuple(given.shape[1:])}")
        level = self._in_raster_order(rows)
        known = given.flatten(1).T.to(self.like)
        shape = (volume(self.lattice) - len(known), n * known.shape[1])
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=self.like.device)
        spins, logits = level.conditional.draw(known[:0], uniform, known)
        sites = torch.cat((known.repeat_interleave(n, 1), spins))
        return sites.T.contiguous().unflatten(1, self.lattice), log_probability(spins, logits)

    def _in_raster_order(self, rows: int) -> Level:
        """The only level of a network that can go on after its first rows, of which there are so many."""
        if not 0 < rows < self.lattice[0]:
            raise ValueError(f"expected 1 to {self.lattice[0] - 1} rows of {self.lattice}, got {rows}")
        level = self.levels[0]
        assert isinstance(level, Level)
        order = level.blocks.flatten()
        if len(self.levels) > 1 or not torch.equal(order, torch.arange(len(order), device=order.device)):
            raise ValueError(
                "expected a network that draws row after row, from dense_spins or convolutional_spins, to "
                f"continue given rows, got one that draws blocks in {len(self.levels)} levels"
            )
        return level

    def log_prob(self, x: Spins, given: int = 0) -> LogProb:
        """log q(s) of given spins, or log q(b | a) of all rows b after the first ones, a.

        Args:
            x: s.
            given: how many rows a has.

        Raises:
            ValueError: for spins on another lattice, for a number of rows that leaves none, and for given
                rows where the network does not draw row after row.
        """
        if tuple(x.shape[1:]) != self.lattice:
            raise ValueError(f"expected spins on the lattice {self.lattice}, got {tuple(x.shape[1:])}")
        sites, log_q = x.flatten(1).T, x.new_zeros(len(x))
        if given:
            logits = self._in_raster_order(given).conditional.logits(sites[:0], sites).to(x.dtype)
            first = given * volume(self.lattice[1:])
            return log_probability(sites[first:], logits[first:])
        for level in self.levels:
            log_q = log_q + level.log_prob(sites)  # pyright: ignore[reportCallIssue]
        return log_q


def log_probability(
    spins: Float[Tensor, "spins sequences"], logits: Float[Tensor, "spins sequences"]
) -> Float[Tensor, "sequences"]:
    """Σ_i log σ(s_i a_i): finite however large a logit is."""
    return functional.logsigmoid(spins * logits).sum(0)
