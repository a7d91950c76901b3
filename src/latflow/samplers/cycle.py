"""Several kernels in turn on one chain."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from latflow.samplers.base import Block, Observe, Sampler
from latflow.samplers.metropolis import IndependenceMetropolis, IndependenceState
from latflow.types import Field


@dataclass(frozen=True)
class CycleState:
    """The field of each chain, and what each kernel knows of it.

    Attributes:
        x: the field that the chains hold.
        kernels: the state in which each kernel was last.
        stale: (batch, kernel), whether the chain has moved since then, so that the kernel starts anew from x.
    """

    x: Field
    kernels: tuple[Any, ...]
    stale: Bool[Tensor, "batch _"]


class CycleInfo(SimpleNamespace):
    """What became of one cycle of each chain, as tensors by name.

    Attributes:
        accepted: whether the chain moved at all, in any kernel.
        accepted_NAME: for the kernel of this name, the share of its steps that were accepted.
        …_NAME: whatever else the kernel reports, of its last step in the cycle: "delta_h_hmc".
    """

    accepted: Bool[Tensor, "batch"]


class Cycle(Sampler[CycleState, CycleInfo]):
    """One chain that several kernels move in turn, for example proposals of a flow, and HMC.

    Each kernel keeps exp(−S) where it is, so their product does. They hand over the physical field: a kernel
    that works in other variables finds them from the field (`init`), but only for the chains which the others
    have moved; of the rest it still holds action, force or log-weight.

    One step is one cycle. Its "accepted" says whether the chain has moved at all; the acceptance of each
    kernel is in "accepted_NAME". Names are those of the classes unless given.

    Args:
        kernels: samplers of one theory, in the order in which they act.
        steps: how many steps each makes in a cycle, one number for all or one each; 1 by default.
        names: of the kernels, for what they report.

    Raises:
        ValueError: for no kernel, numbers of steps below one, or names that are not one each and different.

    Example:
        >>> from latflow.actions import Phi4
        >>> from latflow.samplers import HMC
        >>> action = Phi4((4, 4), m2=-4.0, lam=8.0)
        >>> Cycle([HMC(action, 0.1, 10), HMC(action, 0.5, 2)], steps=(1, 3)).names
        ('hmc', 'hmc_2')
    """

    def __init__(
        self,
        kernels: Sequence[Sampler[Any, Any]],
        steps: int | Sequence[int] = 1,
        names: Sequence[str] | None = None,
    ) -> None:
        self.kernels = tuple(kernels)
        self.steps = (steps,) * len(self.kernels) if isinstance(steps, int) else tuple(steps)
        self.names = tuple(names) if names is not None else _names(self.kernels)
        if not self.kernels:
            raise ValueError("expected at least one kernel in a cycle, got none")
        if len(self.steps) != len(self.kernels) or min(self.steps) < 1:
            raise ValueError(f"expected {len(self.kernels)} numbers of steps of at least 1, got {self.steps}")
        if len(set(self.names)) != len(self.kernels) or len(self.names) != len(self.kernels):
            raise ValueError(f"expected {len(self.kernels)} different names, got {self.names}")

    def init(self, x: Field) -> CycleState:
        """Start one chain at each configuration of x, from which every kernel must be able to start."""
        states = tuple(kernel.init(x) for kernel in self.kernels)
        stale = torch.zeros((len(x), len(self.kernels)), dtype=torch.bool, device=x.device)
        return CycleState(x.detach().clone(), states, stale)

    def step(self, state: CycleState, generator: Generator) -> tuple[CycleState, CycleInfo]:
        """One cycle of every chain."""
        state, info, _ = self._cycled(state, generator)
        return state, info

    @torch.no_grad()
    def advance(
        self, state: CycleState, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[CycleState, Block]:
        """Make `n_steps` cycles of every chain and record each, with the raw draws of kernels that make some.

        The arguments are those of `Sampler.advance`.
        """
        if not any(isinstance(kernel, IndependenceMetropolis) for kernel in self.kernels):
            return super().advance(state, n_steps, observe, generator)
        rows, proposals = [], []
        for _ in range(n_steps):
            state, info, draws = self._cycled(state, generator)
            rows.append(observe(state.x) | vars(info))
            proposals += [observe(drawn.x) | {"log_weight": drawn.log_weight} for drawn in draws]
        return state, Block(_stacked(rows), _stacked(proposals))

    def _cycled(
        self, state: CycleState, generator: Generator
    ) -> tuple[CycleState, CycleInfo, list[IndependenceState]]:
        """One cycle of every chain, and the draws from densities that were proposed in it."""
        draws: list[IndependenceState] = []
        x, states, stale = state.x, list(state.kernels), state.stale.clone()
        moved_at_all = torch.zeros_like(stale[:, 0])
        report: dict[str, Tensor] = {}
        for i, (kernel, name) in enumerate(zip(self.kernels, self.names, strict=True)):
            begin = _brought_to(kernel, states[i], x, stale[:, i])
            states[i], told = self._steps(i, begin, generator, draws)
            # bit for bit, so that a chain which no kernel has moved keeps its field and what is known of it
            before, after = kernel.field(begin), kernel.field(states[i])
            moved = (before != after).flatten(1).any(1)
            x = torch.where(moved.view(-1, *[1] * (x.ndim - 1)), after, x)
            stale |= moved[:, None]
            stale[:, i] = False
            moved_at_all |= moved
            report |= {f"{key}_{name}": values for key, values in told.items()}
        return CycleState(x, tuple(states), stale), CycleInfo(accepted=moved_at_all, **report), draws

    def field(self, state: CycleState) -> Field:
        """The configuration of each chain."""
        return state.x

    def state_dict(self, state: CycleState) -> dict[str, Tensor]:
        """The state as tensors by name; those of the kernels have their number in front: "0.x"."""
        parts = zip(self.kernels, state.kernels, strict=True)
        inner = {
            f"{i}.{name}": values
            for i, (kernel, part) in enumerate(parts)
            for name, values in kernel.state_dict(part).items()
        }
        return {"x": state.x, "stale": state.stale} | inner

    def state_from_dict(self, tree: dict[str, Any]) -> CycleState:
        """The state that `state_dict` took apart."""
        states = tuple(
            kernel.state_from_dict(
                {
                    name.removeprefix(f"{i}."): values
                    for name, values in tree.items()
                    if name.startswith(f"{i}.")
                }
            )
            for i, kernel in enumerate(self.kernels)
        )
        return CycleState(tree["x"], states, tree["stale"])

    def _steps(
        self, i: int, state: Any, generator: Generator, draws: list[IndependenceState]
    ) -> tuple[Any, dict[str, Tensor]]:
        """The steps of one kernel, and what it tells of the last; of "accepted" the mean over all.

        What a kernel draws from a density is added to `draws`.
        """
        kernel, told, accepted = self.kernels[i], {}, []
        for _ in range(self.steps[i]):
            if isinstance(kernel, IndependenceMetropolis):
                state, info, drawn = kernel.step_with_draws(state, generator)
                draws.append(drawn)
            else:
                state, info = kernel.step(state, generator)
            told = dict(vars(info))
            accepted.append(told["accepted"].double())
        return state, told | {"accepted": torch.stack(accepted).mean(0)}


def _brought_to(kernel: Sampler[Any, Any], state: Any, x: Field, stale: Bool[Tensor, "batch"]) -> Any:
    """The state of a kernel at the fields x, which it knows already where `stale` is false."""
    rows = stale.nonzero()[:, 0]
    if len(rows) == 0:
        return state
    if len(rows) == len(x):
        return kernel.init(x)
    fresh = kernel.state_dict(kernel.init(x[rows]))
    known = kernel.state_dict(state)
    return kernel.state_from_dict({name: known[name].index_copy(0, rows, fresh[name]) for name in known})


def _stacked(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]).cpu() for name in rows[0]}


def _names(kernels: Sequence[Sampler[Any, Any]]) -> tuple[str, ...]:
    """The class of each kernel in lower case, numbered from the second of a class on: "hmc", "hmc_2"."""
    seen: Counter[str] = Counter()
    names = []
    for kernel in kernels:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(kernel).__name__).lower()
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(names)
