"""Autoregressive densities: blocks of sites in order, each drawn given those that came before."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Generator, Tensor, nn

from latflow.densities.autoregressive.values import Rows, Signs, Values
from latflow.fields import SPINS, FieldKind
from latflow.lattice import checked_lattice, volume
from latflow.types import Lattice, LogProb, Spins, States

__all__ = ["Conditional", "Level", "Rows", "SpinNetwork"]


class Conditional(nn.Module, ABC):
    """The distribution of a block of m sites, one after the other, given k sites of a context.

        q(b | c) = Π_i p(b_i; a_i),   a_i = a_i(c, b_1 … b_{i−1})

    What values a site has, how many features stand for it and how many outputs a_i make its distribution,
    `values` knows; networks take features and give outputs. For spins ±1 both are one number, p(b; a) =
    σ(b a), and where every a_i is an odd function of all spins, a(−c, −b) = −a(c, b), the distribution has
    the Z₂ symmetry exactly.
    """

    spins: int
    """m, the sites of the block."""
    context: int
    """k, the sites of the context."""
    values: Values = Signs()
    """Of a site."""

    @abstractmethod
    def logits(self, context: Rows, spins: Rows) -> Rows:
        """a_1 … a_m, (m · outputs, batch), in one parallel pass, from the features of all k and m sites."""

    @abstractmethod
    def begin(self, context: Rows) -> list[Tensor]:
        """What `advance` keeps from site to site, with the batch last: nothing in it is computed twice."""

    @abstractmethod
    def advance(self, cache: list[Tensor], i: int) -> Rows:
        """a_i, (outputs, batch), once sites 0 … i−1 are set."""

    @abstractmethod
    def set(self, cache: list[Tensor], i: int, spin: Rows) -> None:
        """Let site i of the block have these features, (features, batch), for all later outputs."""

    def draw(
        self,
        context: Rows,
        uniform: Float[Tensor, "left draws"],
        given: Num[Tensor, "given batch"] | None = None,
    ) -> tuple[Num[Tensor, "left draws"], Float[Tensor, "outputs draws"]]:
        """Values of the block from uniform numbers u in [0, 1), and their outputs a.

        It compares in the precision of u, which should be float64: in float32 one in 2²⁴ of the numbers is
        zero and would make any spin +1.

        Args:
            context: features of each sequence.
            uniform: u, for each site that is left to draw and each draw: draws/batch of them, one after the
                other, continue the same sequence, whose features are computed once.
            given: the first values of each sequence; None where all are left.
        """
        cache, known = self.begin(context), 0
        if given is not None:
            known = len(given)
            for i, spin in enumerate(given):
                self.advance(cache, i)
                self.set(cache, i, self.values.encoded(spin[None], context))
            copies = uniform.shape[1] // given.shape[1]
            cache = [kept.repeat_interleave(copies, -1) for kept in cache]
        threshold, spins, logits = self.values.thresholds(uniform), [], []
        for i in range(known, self.spins):
            logits.append(self.advance(cache, i).to(context.dtype))
            spins.append(self.values.drawn(threshold[i - known], logits[-1]))
            self.set(cache, i, self.values.encoded(spins[-1], context))
        return torch.cat(spins), torch.cat(logits)


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

    def log_prob(self, sites: Num[Tensor, "sites batch"], like: Tensor) -> LogProb:
        """Σ over blocks of log q(block | context), from the values of the lattice.

        Args:
            sites: the values.
            like: has the precision of the weights.
        """
        values = self.conditional.values
        context = values.encoded(sites[self.contexts].flatten(1), like)
        block = sites[self.blocks].flatten(1)
        spins = values.encoded(block, like)
        return self._total(block, self.conditional.logits(context, spins).to(spins.dtype))

    def draw(self, sites: Num[Tensor, "sites batch"], uniform: Rows, like: Tensor) -> LogProb:
        """Draw the blocks, write them into the values of the lattice, and return their log-probability."""
        context = self.conditional.values.encoded(sites[self.contexts].flatten(1), like)
        block, logits = self.conditional.draw(context, uniform[self.blocks].flatten(1))
        sites[self.blocks] = block.unflatten(1, (self.blocks.shape[1], -1))
        return self._total(block, logits)

    def _total(
        self, block: Num[Tensor, "spins sequences"], logits: Float[Tensor, "outputs sequences"]
    ) -> LogProb:
        """That of all blocks together."""
        each = self.conditional.values.log_probability(block, logits)
        return each.unflatten(0, (self.blocks.shape[1], -1)).sum(0)


class SpinNetwork(nn.Module):
    """A density of a discrete field that one can draw exactly: log q(s) = Σ over levels, in their order.

    Each site belongs to one block of one level, and the context of a block lies in earlier levels. The dense
    and the convolutional network have a single level whose only block is the whole lattice in raster order;
    the hierarchical one has many. Spins are ±1 in the precision of the weights, states of other kinds the
    integers 0 … q−1. Draws have no derivative, so that the estimators for this density are those which
    differentiate log q alone: score, reinforce, reinforce_leave_one_out, and forward_kl. Source: Wu, Wang,
    Zhang, Solving statistical mechanics using variational autoregressive networks, arXiv:1809.10606.

    Args:
        lattice: side lengths.
        levels: in the order in which they are drawn.
        recipe: the configuration from which a named preset built the network.
        kind: of the field, whose values the conditionals have.
        symmetries: of that kind, by name, which the density has exactly, whatever its weights.

    Raises:
        ValueError: unless the blocks cover every site once.
    """

    like: Tensor

    def __init__(
        self,
        lattice: Sequence[int],
        levels: Sequence[Level],
        recipe: dict[str, Any] | None = None,
        *,
        kind: FieldKind = SPINS,
        symmetries: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.lattice: Lattice = checked_lattice(lattice)
        self.kind: FieldKind = kind
        self.symmetries: tuple[str, ...] = tuple(symmetries)
        self.values: Values = levels[0].conditional.values
        covered = torch.cat([level.blocks.flatten() for level in levels]).sort().values
        if not torch.equal(covered.cpu(), torch.arange(volume(self.lattice))):
            raise ValueError(f"expected blocks that cover each of the {volume(self.lattice)} sites once")
        self.levels: nn.ModuleList = nn.ModuleList(levels)
        self.recipe = recipe
        self.register_buffer("like", torch.empty(0), persistent=False)

    @torch.no_grad()
    def sample(
        self, n: int, generator: Generator, given: Num[Tensor, "sequences rows ..."] | None = None
    ) -> tuple[Spins | States, LogProb]:
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
        sites = self.like.new_zeros(shape, dtype=self.values.dtype(self.like))
        log_q = self.like.new_zeros(n)
        for level in self.levels:
            assert isinstance(level, Level)
            log_q = log_q + level.draw(sites, uniform, self.like)
        return sites.T.contiguous().unflatten(1, self.lattice), log_q

    def _continued(self, n: int, generator: Generator, given: Tensor) -> tuple[Spins | States, LogProb]:
        """Draws after given rows, which are the beginning of the only block."""
        rows, row = given.shape[1] if given.ndim > 1 else 0, tuple(given.shape[2:])
        if row != self.lattice[1:]:
            raise ValueError(f"expected rows of the lattice {self.lattice}, got {tuple(given.shape[1:])}")
        level = self._in_raster_order(rows)
        known = given.flatten(1).T.to(self.like.device, self.values.dtype(self.like))
        shape = (volume(self.lattice) - len(known), n * known.shape[1])
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=self.like.device)
        context = self.values.encoded(known[:0], self.like)
        spins, logits = level.conditional.draw(context, uniform, known)
        sites = torch.cat((known.repeat_interleave(n, 1), spins))
        return sites.T.contiguous().unflatten(1, self.lattice), self.values.log_probability(spins, logits)

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

    def _own(self, x: Spins | States) -> Spins | States:
        """The same values as the network has them: ±1 is exact in any precision."""
        dtype = self.values.dtype(self.like)
        if x.dtype.is_floating_point != dtype.is_floating_point:
            raise ValueError(f"expected {self.kind} in {dtype}, got {x.dtype}")
        return x.to(dtype)

    def log_prob(self, x: Spins | States, given: int = 0) -> LogProb:
        """log q(s) of given spins or states, or log q(b | a) of all rows b after the first ones, a.

        Args:
            x: s.
            given: how many rows a has.

        Raises:
            ValueError: for spins on another lattice, states that are no whole numbers, for a number of rows
                that leaves none, and for given rows where the network does not draw row after row.
        """
        if tuple(x.shape[1:]) != self.lattice:
            raise ValueError(f"expected {self.kind} on the lattice {self.lattice}, got {tuple(x.shape[1:])}")
        sites = self._own(x).flatten(1).T
        if given:
            encoded = self.values.encoded(sites, self.like)
            logits = self._in_raster_order(given).conditional.logits(encoded[:0], encoded).to(encoded.dtype)
            first = given * volume(self.lattice[1:])
            return self.values.log_probability(sites[first:], logits[first * self.values.outputs :])
        total = 0
        for level in self.levels:
            assert isinstance(level, Level)
            total = total + level.log_prob(sites, self.like)
        assert isinstance(total, Tensor)
        return total
