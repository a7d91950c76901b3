"""The processes that train one density and sample together: who they are, and what they exchange."""

import hashlib
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Generator, Tensor

from latflow.errors import LatflowError, ProcessError

Result = TypeVar("Result")


@dataclass(frozen=True)
class World:
    """The processes that do one work together, each with its share of every batch, or of all chains.

    `here` finds them. What they exchange they exchange in turn: each method that says "all processes" must be
    called by all of them, in the same order. In a world of one nothing is exchanged.

    Args:
        size: how many they are.
        rank: the number of this one, from 0.
    """

    size: int = 1
    rank: int = 0

    @classmethod
    def here(cls) -> "World":
        """The processes of `torch.distributed` where that is initialised, else this process alone."""
        return cls(dist.get_world_size(), dist.get_rank()) if _is_joined() else cls()

    def share(self, number: int, what: str = "a batch") -> int:
        """How many out of so many draws, or chains, each process has.

        Raises:
            ValueError: when they cannot be shared out evenly.
        """
        if number % self.size:
            raise ValueError(f"expected {what} that {self.size} processes share out evenly, got {number}")
        return number // self.size

    def own(self, whole: Tensor) -> Tensor:
        """What this process has of a tensor that is shared out along its first dimension: undoes `gather`."""
        return whole.chunk(self.size)[self.rank].clone() if self.size > 1 else whole

    def separate(self, generator: Generator) -> None:
        """Let no two processes draw the same: all but the first seed anew, from state and rank."""
        if self.rank:
            state = generator.get_state().numpy().tobytes()
            digest = hashlib.sha256(state + f" process {self.rank}".encode()).digest()
            generator.manual_seed(int.from_bytes(digest[:8], "big"))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, equal in shape, one after the other along the first dimension."""
        if self.size == 1:
            return tensor
        own = _reachable(tensor).contiguous()
        if own.dtype == torch.bool:  # which not every backend exchanges
            own = own.to(torch.uint8)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        with self._exchange():
            dist.all_gather(parts, own)
        return torch.cat(parts).to(tensor)

    @torch.no_grad()
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Put the sums over all processes in place of these tensors, by one exchange.

        Every process receives the same bits.
        """
        if self.size == 1:
            return
        whole = _reachable(torch.cat([tensor.flatten() for tensor in tensors]))
        with self._exchange():
            dist.all_reduce(whole)
        for tensor, total in zip(tensors, whole.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    @torch.no_grad()
    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Put what the first process holds in place of these tensors of all processes."""
        if self.size == 1:
            return
        for tensor in tensors:
            whole = _reachable(tensor.detach()).contiguous()
            with self._exchange():
                dist.broadcast(whole, src=0)
            if not torch.equal(whole.to(tensor.device), tensor):
                tensor.copy_(whole)

    def largest(self, number: int) -> int:
        """The largest of the numbers of all processes."""
        if self.size == 1:
            return number
        found = torch.tensor([number], device=_meeting_place())
        with self._exchange():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found.item())

    def require_device(self, device: torch.device) -> None:
        """Each process needs a device of its own, where that which the configuration names is a GPU.

        Raises:
            ValueError: when they would meet on one.
        """
        if self.size == 1 or device.type != "cuda":
            return
        if device.index is not None:
            raise ValueError(
                f"expected 'auto', 'cpu' or 'cuda' for {self.size} processes, got {str(device)!r}"
            )
        neighbours, found = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
        if neighbours > found:
            raise ValueError(f"expected a GPU for each of {neighbours} processes on a node, found {found}")

    def from_first(self, produce: Callable[[], Result]) -> Result:
        """What `produce` gives the first process, for all processes; the others do not call it.

        Raises:
            LatflowError, OSError: in all processes, when `produce` raises it in the first.
        """
        if self.size == 1:
            return produce()
        parcel: list = [None, None]
        if self.rank == 0:
            try:
                parcel[0] = produce()
            except (LatflowError, OSError) as error:
                parcel[1] = error
        with self._exchange():
            dist.broadcast_object_list(parcel, src=0, device=_meeting_place())
        if parcel[1] is not None:
            raise parcel[1]
        return parcel[0]

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:  # of ValueError: an environment that lacks something
            detail = textwrap.shorten(str(error), 160, placeholder=" …")
            raise ProcessError(
                f"process {self.rank} of {self.size} cannot reach the others: one of them was killed, or "
                f"failed with a message of its own ({detail})"
            ) from error


ALONE = World()
"""A process that works by itself."""


def launched() -> World:
    """The processes that torchrun started, joined or not, as its environment variables name them."""
    return World(int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0")))


@contextmanager
def joined() -> Iterator[World]:
    """The processes that torchrun started, joined until the block ends; without torchrun a world of one.

    The environment that torchrun sets says which they are: there is nothing to configure. On GPUs each
    process takes the device of its number on its node. Tensors there travel by NCCL, all others by gloo.

    Raises:
        ProcessError: when the others cannot be reached.
    """
    planned = launched()
    if planned.size == 1 or _is_joined():
        yield World.here()
        return
    backend, local = "gloo", int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        # with too few devices the configuration may still name the CPU; `require_device` tells otherwise
        torch.cuda.set_device(local % torch.cuda.device_count())
    with planned._exchange():
        dist.init_process_group(backend)
    try:
        yield World.here()
    finally:
        dist.destroy_process_group()


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _meeting_place() -> torch.device:
    """A device whose tensors can be exchanged: the CPU, unless the processes are joined by NCCL alone."""
    if "cpu" in dist.get_backend_config():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def _reachable(tensor: Tensor) -> Tensor:
    """The tensor where it can be exchanged."""
    return tensor if tensor.is_cuda else tensor.to(_meeting_place())
