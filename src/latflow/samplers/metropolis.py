"""Independence Metropolis: draws from a density q, made exact by accepting or rejecting each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from latflow.densities.base import Density, WeightedSampler, draws, log_weight
from latflow.observables.base import Observe
from latflow.samplers.base import Block, Sampler
from latflow.samplers.history import chosen, joined, on_cpu
from latflow.theories.base import Action
from latflow.types import Count, Draws, LogProb

_FEW_CHAINS = 16
"""Below this many chains, Python floats are faster than arrays with one entry a chain."""


@dataclass(frozen=True)
class IndependenceState:
    """The configuration of each chain and its log-weight."""

    x: Tensor
    log_weight: LogProb


@dataclass(frozen=True)
class IndependenceInfo:
    """What became of one proposal to each chain.

    Attributes:
        accepted: whether the chain moved.
        log_weight: of the configuration that the chain holds now.
    """

    accepted: Bool[Tensor, "batch"]
    log_weight: LogProb


@dataclass(frozen=True)
class IndependenceMetropolis(Sampler[IndependenceState, IndependenceInfo]):
    """The Metropolis algorithm with proposals x′ drawn from q whatever the present x.

        w = exp(−S) / q,    log_weight = −S(x) − log q(x),    accept x′ with probability min(1, w(x′) / w(x))

    More than draws with weights is not needed: of a weighted sampler without log q(x), such that
    ⟨O⟩ = ⟨w O⟩ / ⟨w⟩ over its draws, the chains start at draws (`init_from_draws`). The stationary
    distribution is exp(−S) wherever q > 0. Draws, actions and observables of the proposals are computed in
    large batches before any decision falls, and the history of each chain is gathered from them. Source:
    Albergo, Kanwar, Shanahan, Flow-based generative models for Markov chain Monte Carlo in lattice field
    theory, arXiv:1904.12072.

    Args:
        density: q, with `sample(n, generator)` and `log_prob(x)`; or a weighted sampler, with
            `draws(n, action, generator)`.
        action: S.
        batch: how many proposals are drawn at once, over all chains together. What a chain meets depends on
            it, since the draws of a batch come before its decisions from the generator.

    Raises:
        ValueError: when `batch` is not positive, or exp(−S) cannot be normalised.
    """

    density: Density | WeightedSampler
    action: Action
    batch: Count = 1024

    title = "model proposals"
    step_words = "one proposal of the model"
    proposes = True

    def __post_init__(self) -> None:
        if not isinstance(self.density, Density | WeightedSampler):
            raise ValueError(
                f"expected a model to propose draws of, got {type(self.density).__name__}: a chain beside "
                "the model has none"
            )
        if self.batch < 1:
            raise ValueError(f"expected a batch of at least 1, got {self.batch}")
        self.action.check_proper()

    @torch.no_grad()
    def init(self, x: Tensor) -> IndependenceState:
        """Start one chain at each configuration of x, (batch, *lattice).

        A configuration whose log-weight is not finite is left for the first proposal with a finite one.

        Raises:
            ValueError: when the density cannot evaluate, so that the weight of x is not known.
        """
        if not isinstance(self.density, Density):
            raise ValueError(
                f"expected a density with log_prob to start at given configurations, got "
                f"{type(self.density).__name__}: start at its draws, by init_from_draws"
            )
        return IndependenceState(x.detach().clone(), log_weight(self.action, x, self.density.log_prob(x)))

    def init_from_draws(self, n_chains: int, generator: Generator) -> IndependenceState:
        """Start each chain at a draw of q.

        Raises:
            ValueError: when there is no chain.
        """
        if n_chains < 1:
            raise ValueError(f"expected at least one chain, got {n_chains}")
        return IndependenceState(*self._draw(n_chains, generator))

    def step(
        self, state: IndependenceState, generator: Generator
    ) -> tuple[IndependenceState, IndependenceInfo]:
        """One proposal to every chain."""
        state, info, _ = self.step_with_draws(state, generator)
        return state, info

    def step_with_draws(
        self, state: IndependenceState, generator: Generator
    ) -> tuple[IndependenceState, IndependenceInfo, Draws]:
        """One proposal to every chain, and the draws with their log-weights, accepted or not."""
        proposed = self._draw(len(state.log_weight), generator)
        state, index = _decide(state, proposed, generator)
        return state, IndependenceInfo(index[0] == 0, state.log_weight), proposed

    def field(self, state: IndependenceState) -> Tensor:
        """The configuration of each chain."""
        return state.x

    def state_from_dict(self, tree: dict[str, Any]) -> IndependenceState:
        """The state that `state_dict` took apart."""
        return IndependenceState(**tree)

    @torch.no_grad()
    def advance(
        self, state: IndependenceState, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[IndependenceState, Block]:
        """Make `n_steps` proposals to every chain; `observe` sees each proposal once, accepted or not.

        The arguments are those of `Sampler.advance`. The series have "accepted" and "log_weight" besides the
        observables; `proposals` has the same of the raw draws, without "accepted".
        """
        n_chains = len(state.log_weight)
        steps_in_batch = max(1, self.batch // n_chains)
        held = observe(state.x) | {"log_weight": state.log_weight}
        series, proposals = [], []
        for first in range(0, n_steps, steps_in_batch):
            n = min(steps_in_batch, n_steps - first)
            proposed = self._draw(n * n_chains, generator)
            state, index = _decide(state, proposed, generator)
            drawn = observe(proposed.x) | {"log_weight": proposed.log_weight}
            proposals.append({name: values.unflatten(0, (n, n_chains)) for name, values in drawn.items()})
            followed = {name: _follow(index, held[name], values) for name, values in proposals[-1].items()}
            held = {name: values[-1] for name, values in followed.items()}
            own_step = torch.arange(n, device=index.device)[:, None]
            series.append(followed | {"accepted": index == own_step})
        return state, Block(on_cpu(joined(series)), on_cpu(joined(proposals)))

    @torch.no_grad()
    def _draw(self, n: int, generator: Generator) -> Draws:
        """N draws of q and their log-weights, at most `batch` at a time."""
        sizes = [min(self.batch, n - first) for first in range(0, n, self.batch)]
        parts = [draws(self.density, size, self.action, generator) for size in sizes]
        return parts[0] if len(parts) == 1 else Draws(*map(torch.cat, zip(*parts, strict=True)))


def metropolis_scan(
    log_weight: Float[Tensor, "step chain"],
    log_uniform: Float[Tensor, "step chain"],
    current_log_weight: Float[Tensor, "chain"],
) -> Int[Tensor, "step chain"]:
    """The decisions of independence Metropolis: which proposal each chain holds after each step.

    Proposal t is accepted when log_uniform[t] < log_weight[t] − (log-weight held before). The comparison is
    made in float64, whatever comes in. A log-weight that is not finite is never accepted (an infinite weight
    would hold its chain for ever), and a chain that starts at one leaves it for the first finite proposal.

    Args:
        log_weight: of the proposals.
        log_uniform: logarithms of uniform random numbers in [0, 1).
        current_log_weight: of the configurations from which the chains start.

    Returns:
        The step whose proposal is held, int64; −1 while a chain still holds its start.

    Example:
        >>> proposed, log_uniform = torch.tensor([[0.0], [-3.0]]), torch.tensor([[-1.0], [-2.0]])
        >>> metropolis_scan(proposed, log_uniform, torch.tensor([0.5]))
        tensor([[0],
                [0]])
    """
    proposed, current, log_u = (
        values.detach().to("cpu", torch.float64).numpy()
        for values in (log_weight, current_log_weight, log_uniform)
    )
    # −inf − (−inf) is NaN and compares false: a start without weight waits for a proposal that has one
    proposed, current = (np.where(np.isfinite(values), values, -np.inf) for values in (proposed, current))
    if proposed.shape[1] < _FEW_CHAINS:
        index = np.empty(proposed.shape, dtype=np.int64)
        for chain, start in enumerate(current.tolist()):
            index[:, chain] = _scan_one(proposed[:, chain].tolist(), log_u[:, chain].tolist(), start)
    else:
        index = _scan_many(proposed, log_u, current)
    return torch.from_numpy(index).to(log_weight.device)


def _scan_one(log_weight: list[float], log_uniform: list[float], current: float) -> list[int]:
    index, held = [], -1
    for step, (proposed, log_u) in enumerate(zip(log_weight, log_uniform, strict=True)):
        if log_u < proposed - current:
            held, current = step, proposed
        index.append(held)
    return index


def _scan_many(
    log_weight: NDArray[np.float64], log_uniform: NDArray[np.float64], current: NDArray[np.float64]
) -> NDArray[np.int64]:
    index = np.empty(log_weight.shape, dtype=np.int64)
    held, current = np.full(log_weight.shape[1], -1, dtype=np.int64), current.copy()
    with np.errstate(invalid="ignore"):
        for step, (proposed, log_u) in enumerate(zip(log_weight, log_uniform, strict=True)):
            accepted = log_u < proposed - current
            np.copyto(current, proposed, where=accepted)
            np.copyto(held, step, where=accepted)
            index[step] = held
    return index


def _decide(
    state: IndependenceState, proposed: Draws, generator: Generator
) -> tuple[IndependenceState, Int[Tensor, "step chain"]]:
    """Offer proposals (step · chain, …) to the chains: the new state, and what `metropolis_scan` says."""
    n_chains = len(state.log_weight)
    offered = proposed.log_weight.unflatten(0, (-1, n_chains))
    uniform = torch.rand(offered.shape, generator=generator, dtype=torch.float64, device=generator.device)
    index = metropolis_scan(offered, uniform.log(), state.log_weight)
    last, chain = index[-1], torch.arange(n_chains, device=index.device)
    moved, latest = last >= 0, (last.clamp(min=0), chain)
    taken = proposed.x.unflatten(0, offered.shape)[latest]
    return IndependenceState(
        chosen(moved, taken, state.x), chosen(moved, offered[latest], state.log_weight)
    ), index


def _follow(index: Int[Tensor, "step chain"], held: Tensor, drawn: Tensor) -> Tensor:
    """The values (step, chain, …) along the chains, from those of the start (chain, …) and the proposals."""
    chain = torch.arange(index.shape[1], device=index.device)
    return torch.cat([held[None], drawn])[index + 1, chain]
