"""Where a training step spends its time and its memory: the graph of the loss, node by node."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from latflow.estimators import Estimator
from latflow.theories.base import Action
from latflow.training.precision import check_precision, lowered


class NodeType(NamedTuple):
    """All nodes of one type in the graph of a loss.

    Attributes:
        name: as PyTorch calls it, such as "ConvolutionBackward0".
        count: how many there are.
        seconds: that the backward pass spends in them.
    """

    name: str
    count: int
    seconds: float


@dataclass(frozen=True)
class StepProfile:
    """One estimate of the gradient: its loss, and its backward pass.

    Attributes:
        loss: seconds of a call of the estimator, the median over repeats.
        backward: seconds of `backward()`, likewise.
        nodes: of the graph by their types, those that take longest first, of one backward pass in which every
            node is timed, and which that slows down.
        tensors: how many different ones the graph holds, parameters apart.
        held: their bytes.
        peak: the most bytes that both passes together have allocated at once, what was there before apart.
    """

    loss: float
    backward: float
    nodes: tuple[NodeType, ...]
    tensors: int
    held: int
    peak: int


def profile_step(
    density: Any,
    action: Action,
    estimator: Estimator,
    n: int,
    generator: Generator,
    precision: str = "full",
    repeats: int = 5,
) -> StepProfile:
    """Measure an estimate of the gradient from n draws, as a training step makes it.

    What tables 1 to 5 of Białas, Korcyl, Stebel, Training normalizing flows with
    computationally intensive target probability distributions, measure. Gradients of the parameters are
    gone afterwards. On one CPU thread seconds are those of that thread, so that other work on the machine
    does not count; else they are those of the wall.

    Args:
        density: a module with parameters.
        action: S.
        estimator: one whose gradient the density learns from.
        n: how many draws.
        generator: of the draws.
        precision: of the networks, "full", "bfloat16" or "float16".
        repeats: of which medians are taken, after one pass that is not counted.

    Raises:
        ValueError: for an estimator without gradient, no repeat, another precision, and what the estimator
            refuses.
    """
    if not estimator.has_gradient:
        raise ValueError(f"expected an estimator with a gradient, got {type(estimator).__name__}")
    if repeats < 1:
        raise ValueError(f"expected at least one repeat, got {repeats}")
    check_precision(precision)
    estimator.check(density, action)
    device = generator.device

    def estimate() -> Tensor:
        with lowered(precision, device.type):
            return estimator(density, action, n, generator).loss

    def whole() -> None:
        density.zero_grad(set_to_none=True)
        estimate().backward()

    whole()
    taken: list[tuple[float, float]] = []
    for _ in range(repeats):
        density.zero_grad(set_to_none=True)
        first = _now(device)
        loss = estimate()
        second = _now(device)
        loss.backward()
        taken.append((second - first, _now(device) - second))
    density.zero_grad(set_to_none=True)
    parameters = {p.untyped_storage().data_ptr() for p in density.parameters()}
    loss, held = _held(estimate)
    storages = {place: size for place, size in held.items() if place not in parameters}
    nodes = _timed(loss, device)
    peak = _peak(whole)
    density.zero_grad(set_to_none=True)
    of_loss, of_backward = (statistics.median(times) for times in zip(*taken, strict=True))
    return StepProfile(of_loss, of_backward, nodes, len(storages), sum(storages.values()), peak)


def graph_nodes(loss: Tensor) -> set[Node]:
    """All nodes of the graph of a tensor."""
    found: set[Node] = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [following for following, _ in node.next_functions]
    return found


def _timed(loss: Tensor, device: torch.device) -> tuple[NodeType, ...]:
    """Go backwards, with a clock at every node."""
    begun: dict[Node, float] = {}
    seconds: dict[str, float] = defaultdict(float)
    nodes = graph_nodes(loss)

    def hooks(node: Node) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(_: Any) -> None:
            begun[node] = _now(device)

        def after(_: Any, __: Any) -> None:
            seconds[_short(node)] += _now(device) - begun[node]

        return before, after

    for node in nodes:
        before, after = hooks(node)
        node.register_prehook(before)
        node.register_hook(after)
    loss.backward()
    counts: dict[str, int] = defaultdict(int)
    for node in nodes:
        counts[_short(node)] += 1
    found = (NodeType(name, count, seconds[name]) for name, count in counts.items())
    return tuple(sorted(found, key=lambda one: -one.seconds))


def _short(node: Node) -> str:
    return node.name().rpartition("::")[2]


def _held(estimate: Callable[[], Tensor]) -> tuple[Tensor, dict[int, int]]:
    """An estimate, and the bytes of each storage that its graph holds; not what graphs on the way held."""
    found: dict[int, int] = {}

    def unpack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(torch.detach, unpack):
        loss = estimate()
    found.clear()  # what was unpacked on the way
    for node in graph_nodes(loss):
        for name in dir(node):
            if name.startswith("_saved") or name == "saved_tensors":
                getattr(node, name)  # unpacks it
    return loss, found


def _peak(run: Callable[[], None]) -> int:
    """The most bytes that a call has allocated at once, on all devices together."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    results = recorded.profiler
    assert results is not None
    assert results.kineto_results is not None
    changes = sorted(
        (event.start_ns(), event.nbytes())  # pyright: ignore[reportAttributeAccessIssue]
        for event in results.kineto_results.events()
        if event.name() == "[memory]"
    )
    here = most = 0
    for _, change in changes:
        here += change
        most = max(most, here)
    return most


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return time.thread_time()
    return time.perf_counter()
