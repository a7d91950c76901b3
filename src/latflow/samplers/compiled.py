"""Functions of named tensors as one compiled call each."""

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Named = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""A function of tensors by name."""


def can_compile() -> bool:
    """Whether a C++ compiler is found, without which `torch.compile` makes nothing for the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl"))


class Programs:
    """Compiled functions of named tensors, one for each function and shape and precision of its arguments.

    The functions are traced first, so that gradients inside them become part of the graph, and whatever they
    read besides their arguments (the weights of a flow, tables) becomes a constant of it. The graph goes to
    the compiler itself, without the guards of `torch.compile`, which take as long as a small trajectory.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Callable[..., Sequence[Tensor]]] = {}
        self._names: dict[str, list[str]] = {}

    def run(self, function: Named, arguments: dict[str, Tensor]) -> dict[str, Tensor]:
        """`function(arguments)`, compiled at the first call with such arguments.

        Args:
            function: of tensors by name, in batches of one length; pure, with results likewise.
            arguments: the tensors, in the same order at each call.
        """
        inputs = [x.contiguous() for x in arguments.values()]
        first = inputs[0]
        key = (function.__name__, first.shape, first.dtype, first.device)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._compiled(function, list(arguments), inputs)
        return dict(zip(self._names[function.__name__], made(*inputs), strict=True))

    def _compiled(
        self, function: Named, names: list[str], inputs: list[Tensor]
    ) -> Callable[..., Sequence[Tensor]]:
        examples: list[Any] = list(inputs)

        def flat(*values: Tensor) -> tuple[Tensor, ...]:
            results = function(dict(zip(names, values, strict=True)))
            self._names[function.__name__] = list(results)
            return tuple(results.values())

        with warnings.catch_warnings(), torch.no_grad():
            # about internals of the compiler, and about Fourier transforms, which it leaves as they are;
            # the import, which takes a second, changes the filters as well
            warnings.simplefilter("ignore")
            from torch._inductor import compile as compiled
            from torch.fx.experimental.proxy_tensor import make_fx

            graph = make_fx(flat)(*inputs)
            for node in graph.graph.nodes:
                node.meta.clear()  # of the trace, which the compiler would mix with what it finds itself
            # from Python, calls of the kernels take longer than the kernels of a small field; Fourier
            # transforms cannot be called from C++
            from_cpp = not any("_fft_" in str(node.target) for node in graph.graph.nodes)
            made: Any = compiled(graph, examples, options={"cpp_wrapper": from_cpp})
            made(*inputs)
        return made
