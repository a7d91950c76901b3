"""Several kernels in turn on one chain."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from latflow.samplers.base import KnownAction, Place, Sampler
from latflow.samplers.history import chosen
from latflow.types import Draws


@dataclass(frozen=True)
class CycleState:
    """The field of each chain, and what each kernel knows of it.

    Attributes:
        x: the field that the chains hold.
        kernels: the state in which each kernel was last.
        stale: (batch, kernel), whether the chain has moved since then, so that the kernel starts anew from x.
    """

    x: Tensor
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
    have moved; of the rest it still holds action, force or log-weight. A kernel that knows the action of the
    fields hands it on with them.

    One step is one cycle. Its "accepted" says whether the chain has moved at all; the acceptance of each
    kernel is in "accepted_NAME". Names are those of the samplers unless given.

    Args:
        kernels: samplers of one theory, in the order in which they act.
        steps: how many steps each makes in a cycle, one number for all or one each; 1 by default.
        names: of the kernels, for what they report.

    Raises:
        ValueError: for no kernel, numbers of steps below one, or names that are not one each and different.

    Example:
        >>> from latflow.theories import Phi4
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
        self.kernels: tuple[Sampler[Any, Any], ...] = tuple(kernels)
        self.steps: tuple[int, ...] = (steps,) * len(self.kernels) if isinstance(steps, int) else tuple(steps)
        self.names: tuple[str, ...] = tuple(names) if names is not None else _names(self.kernels)
        if not self.kernels:
            raise ValueError("expected at least one kernel in a cycle, got none")
        if len(self.steps) != len(self.kernels) or min(self.steps) < 1:
            raise ValueError(f"expected {len(self.kernels)} numbers of steps of at least 1, got {self.steps}")
        if len(set(self.names)) != len(self.kernels) or len(self.names) != len(self.kernels):
            raise ValueError(f"expected {len(self.kernels)} different names, got {self.names}")

    @property
    def title(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return " + ".join(kernel.title for kernel in self.kernels)

    @property
    def step_words(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        *others, last = (kernel.step_words for kernel in self.kernels)
        return f"a cycle of {', '.join(others)} and {last}" if others else f"a cycle of {last}"

    @property
    def ergodic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(kernel.ergodic for kernel in self.kernels)

    @property
    def proposes(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(kernel.proposes for kernel in self.kernels)

    def init(self, x: Tensor) -> CycleState:
        """Start one chain at each configuration of x, from which every kernel must be able to start."""
        states = tuple(kernel.init(x) for kernel in self.kernels)
        stale = torch.zeros((len(x), len(self.kernels)), dtype=torch.bool, device=x.device)
        return CycleState(x.detach().clone(), states, stale)

    def step(self, state: CycleState, generator: Generator) -> tuple[CycleState, CycleInfo]:
        """One cycle of every chain."""
        state, info, _ = self.step_with_draws(state, generator)
        return state, info

    def step_with_draws(
        self, state: CycleState, generator: Generator
    ) -> tuple[CycleState, CycleInfo, Draws | None]:
        """One cycle of every chain, and the draws that were proposed in it, all batches of them joined."""
        turn, draws, report = self._turn(state), [], {}
        for i, (kernel, name) in enumerate(zip(self.kernels, self.names, strict=True)):
            begin = turn.brought_to(i, kernel)
            end, told = self._steps(i, begin, generator, draws)
            turn.ended(i, kernel, begin, end)
            report |= {f"{key}_{name}": values for key, values in told.items()}
        info = CycleInfo(accepted=turn.moved, **report)
        return turn.state, info, Draws(*map(torch.cat, zip(*draws, strict=True))) if draws else None

    def adapt(
        self, state: CycleState, generator: Generator, thermalisation: int
    ) -> "tuple[Cycle, CycleState]":
        """Each kernel in turn as it is best for the chains, which all of them move."""
        turn, kernels = self._turn(state), []
        for i, kernel in enumerate(self.kernels):
            begin = turn.brought_to(i, kernel)
            place = Place(partial(self._around, kernels[:i]), self.names[i])
            adapted, end = kernel.within(place).adapt(begin, generator, thermalisation)
            turn.ended(i, adapted, begin, end)
            kernels.append(adapted)
        return Cycle(kernels, self.steps, self.names), turn.state

    def _around(self, before: Sequence[Sampler[Any, Any]], kernel: Sampler[Any, Any]) -> "Cycle":
        """This cycle with a kernel after those that are adapted."""
        kernels = [*before, kernel, *self.kernels[len(before) + 1 :]]
        return Cycle(kernels, self.steps, self.names)

    def found(self) -> dict[str, float]:
        """What the kernels found, with their names in front: "hmc.step_size"."""
        parts = zip(self.names, self.kernels, strict=True)
        return {f"{name}.{key}": value for name, kernel in parts for key, value in kernel.found().items()}

    def adapted(self, found: Mapping[str, float]) -> "Cycle":
        kernels = [
            kernel.adapted(own) if (own := _inside(found, name)) else kernel
            for name, kernel in zip(self.names, self.kernels, strict=True)
        ]
        return Cycle(kernels, self.steps, self.names)

    def field(self, state: CycleState) -> Tensor:
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
        states = tuple(kernel.state_from_dict(_inside(tree, str(i))) for i, kernel in enumerate(self.kernels))
        return CycleState(tree["x"], states, tree["stale"])

    def _turn(self, state: CycleState) -> "_Turn":
        """The chains where the last kernel left them."""
        return _Turn(state, self.kernels[-1].known_action(state.kernels[-1]))

    def _steps(
        self, i: int, state: Any, generator: Generator, draws: list[Draws]
    ) -> tuple[Any, dict[str, Tensor]]:
        """The steps of one kernel, and what it tells of the last; of "accepted" the mean over all.

        The independent draws that it makes are added to `draws`.
        """
        kernel, told, accepted = self.kernels[i], {}, []
        for _ in range(self.steps[i]):
            state, info, drawn = kernel.step_with_draws(state, generator)
            if drawn is not None:
                draws.append(drawn)
            told = dict(vars(info))
            accepted.append(told["accepted"].double())
        return state, told | {"accepted": torch.stack(accepted).mean(0)}


class _Turn:
    """The chains on their way from kernel to kernel, with their action where the last kernel knew it."""

    def __init__(self, state: CycleState, known: KnownAction | None) -> None:
        self.x, self.states, self.stale = state.x, list(state.kernels), state.stale.clone()
        self.known = known
        self.moved = torch.zeros_like(self.stale[:, 0])

    def brought_to(self, i: int, kernel: Sampler[Any, Any]) -> Any:
        """The state of a kernel at the fields of the chains, which it knows already where it is not stale."""
        rows = self.stale[:, i].nonzero()[:, 0]
        if len(rows) == 0:
            return self.states[i]
        if len(rows) == len(self.x):
            return self._started(kernel, self.x, self.known)
        known = None if self.known is None else self.known._replace(value=self.known.value[rows])
        fresh = kernel.state_dict(self._started(kernel, self.x[rows], known))
        known = kernel.state_dict(self.states[i])
        return kernel.state_from_dict({name: known[name].index_copy(0, rows, fresh[name]) for name in known})

    @staticmethod
    def _started(kernel: Sampler[Any, Any], x: Tensor, known: KnownAction | None) -> Any:
        return kernel.init(x) if known is None else kernel.init_knowing(x, known)

    def ended(self, i: int, kernel: Sampler[Any, Any], begin: Any, end: Any) -> None:
        """A kernel has moved the chains."""
        self.states[i] = end
        # bit for bit, so that a chain which no kernel has moved keeps its field and what is known of it
        before, after = kernel.field(begin), kernel.field(end)
        moved = (before != after).flatten(1).any(1)
        self.x = chosen(moved, after, self.x)
        self.stale |= moved[:, None]
        self.stale[:, i] = False
        self.moved |= moved
        self.known = kernel.known_action(end)

    @property
    def state(self) -> CycleState:
        """Where the chains are now."""
        return CycleState(self.x, tuple(self.states), self.stale)


def _names(kernels: Sequence[Sampler[Any, Any]]) -> tuple[str, ...]:
    """The names of the kernels, numbered from the second of a name on: "hmc", "hmc_2"."""
    seen: Counter[str] = Counter()
    names = []
    for kernel in kernels:
        seen[kernel.name] += 1
        names.append(kernel.name if seen[kernel.name] == 1 else f"{kernel.name}_{seen[kernel.name]}")
    return tuple(names)


def _inside(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What stands under the names that begin with this one and a dot."""
    return {key.removeprefix(f"{name}."): v for key, v in tree.items() if key.startswith(f"{name}.")}
