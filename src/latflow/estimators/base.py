"""What an estimator is, and how one is taken in pieces."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Generator, Tensor, nn

from latflow.densities.base import Density
from latflow.theories.base import Action
from latflow.types import LogProb

Gather = Callable[[LogProb], LogProb]
"""Given the log-weights that one process drew, those of all processes which train together."""


def alone(log_weight: LogProb) -> LogProb:
    """The log-weights of a process that trains alone."""
    return log_weight


class Estimate(NamedTuple):
    """A gradient estimate.

    Attributes:
        loss: a scalar whose `backward()` leaves the estimate in the parameters; its value carries no meaning.
        log_weight: −S(x) − log q(x) of the draws, (n,), without graph.
    """

    loss: Tensor
    log_weight: LogProb


class Estimator(ABC):
    """A gradient estimator; the instances below are called like functions."""

    needs_force: bool = False
    """Whether it differentiates the action, which discrete fields do not allow."""
    has_gradient: bool = True
    """Whether the density learns from the gradient; else it learns within the call."""
    of_target: bool = False
    """Whether averages of a record run over the target p, F_q = F − D_KL(p|q), and not over draws of q."""
    stateful: bool = False
    """Whether it keeps something from call to call: each training then has one of its own."""

    @abstractmethod
    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        """The estimate from n draws."""

    def check(self, density: object, action: Action) -> None:  # noqa: ARG002 (most take what theories there are)
        """Refuse a density or a theory with which it cannot work.

        Raises:
            ValueError: saying what it needs.
        """
        if isinstance(density, nn.Module) and not any(p.requires_grad for p in density.parameters()):
            raise ValueError(
                f"expected a density with parameters, whose gradient the estimator finds, got "
                f"{type(density).__name__}, which has none"
            )

    def takes(self, density: object, action: Action) -> bool:
        """Whether `check` refuses nothing."""
        try:
            self.check(density, action)
        except ValueError:
            return False
        return True

    def prepare(self, action: Action) -> dict[str, str]:  # noqa: ARG002 (most need nothing)
        """Read the files that it needs, before the first step; their checksums by their paths."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What it keeps from call to call: tensors by name, of the same shapes in all processes."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (most keep nothing)
        """Go on where `state_dict` was taken."""

    def pieces(
        self,
        density: Density,
        action: Action,
        n: int,
        generator: Generator,
        sub_batch: int,
        gather: Gather = alone,  # noqa: ARG002 (only baselines need the other processes)
    ) -> Iterator[Estimate]:
        """The estimate from n draws, at most `sub_batch` of them at a time.

        The losses are weighted such that the gradients of all pieces add up to the estimate from n draws.
        Call `backward()` on each before the next is taken: then one piece at a time holds its activations.

        Of several processes, each with n draws of its own, each finds its part: the mean of their gradients
        is the estimate from all draws. An estimator that compares draws sees those of all by `gather`, which
        every process calls as often.
        """
        for size in sizes(n, sub_batch):
            yield self._piece(density, action, size, generator, size / n)

    def _piece(
        self, density: Density, action: Action, size: int, generator: Generator, share: float
    ) -> Estimate:
        """Its graph is in no variable of `pieces`, where it would live on beside the next one."""
        loss, log_weight = self(density, action, size, generator)
        return Estimate(loss * share, log_weight)


def sizes(n: int, sub_batch: int) -> list[int]:
    """n in parts of `sub_batch`, the last one smaller where it does not divide n."""
    return [min(sub_batch, n - first) for first in range(0, n, sub_batch)]
