"""Functions of named tensors as one compiled call each."""

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Named = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""A function of tensors by name."""


def can_compile() -> bool:
    """Whether a C++ compiler is found, without which `torch.compile` makes nothing for the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl"))


@dataclass(frozen=True)
class _Program:
    """A compiled function: of a list of tensors, its constants first; and the names of its results."""

    call: Callable[[list[Tensor]], Sequence[Tensor]]
    constants: list[Tensor]
    results: list[str]


class Programs:
    """Compiled functions of named tensors, one for each function and shape and precision of its arguments.

    The functions are traced first, so that gradients inside them become part of the graph, and whatever they
    read besides their arguments (the weights of a flow, tables) becomes a constant of it. The graph goes to
    the compiler itself, without the guards of `torch.compile`, and what it makes is called directly, without
    the wrappers for gradients and aliases: either takes as long as a trajectory of a small field.
    """

    def __init__(self) -> None:
        self._made: dict[Any, _Program] = {}
        self._operations: dict[Any, int] = {}

    def run(
        self, function: Named, arguments: dict[str, Tensor], most_reads: int | None = None
    ) -> dict[str, Tensor]:
        """`function(arguments)`, compiled at the first call with such arguments.

        Args:
            function: of tensors by name, in batches of one length; pure, with results likewise.
            arguments: the tensors, in the same order at each call.
            most_reads: values that are used again are stored, not computed again, if they are made of more
                tensors than this; the compiler's own choice if None.
        """
        inputs = [x.contiguous() for x in arguments.values()]
        key = _key(function, arguments)
        program = self._made.get(key)
        if program is None:
            program = self._made[key] = _compiled(function, list(arguments), inputs, most_reads)
        return dict(zip(program.results, program.call([*program.constants, *inputs]), strict=True))

    def operations(self, function: Named, arguments: dict[str, Tensor]) -> int:
        """How many operations the graph of `function(arguments)` has: compiling takes time in proportion."""
        key = _key(function, arguments)
        if key not in self._operations:
            graph, _ = _traced(function, list(arguments), list(arguments.values()))
            self._operations[key] = len(graph.graph.nodes)
        return self._operations[key]


def _key(function: Named, arguments: dict[str, Tensor]) -> tuple[Any, ...]:
    first, *others = arguments.values()
    return function.__name__, first.dtype, first.device, first.shape, *(x.shape for x in others)


def _traced(function: Named, names: list[str], inputs: list[Tensor]) -> tuple[Any, list[str]]:
    """The graph of a function of tensors in the order of `names`, and the names of its results."""
    results: list[str] = []

    def flat(*values: Tensor) -> tuple[Tensor, ...]:
        found = function(dict(zip(names, values, strict=True)))
        results[:] = found
        return tuple(found.values())

    with warnings.catch_warnings(), torch.no_grad():
        # the import, which takes a second, changes the filters as well
        warnings.simplefilter("ignore")
        from torch.fx.experimental.proxy_tensor import make_fx

        return make_fx(flat)(*inputs), results


def _compiled(function: Named, names: list[str], inputs: list[Tensor], most_reads: int | None) -> _Program:
    graph, results = _traced(function, names, inputs)
    with warnings.catch_warnings(), torch.no_grad():
        # about internals of the compiler, and about Fourier transforms, which it leaves as they are
        warnings.simplefilter("ignore")
        from torch._functorch import config
        from torch._inductor.compile_fx import compile_fx, compile_fx_inner

        made: list[Any] = []

        def inner(*arguments: Any, **options: Any) -> Any:
            made.append(compile_fx_inner(*arguments, **options))
            return made[-1]

        for node in graph.graph.nodes:
            node.meta.clear()  # of the trace, which the compiler would mix with what it finds itself
        # from Python, calls of the kernels take longer than the kernels of a small field; Fourier
        # transforms cannot be called from C++
        from_cpp = not any("_fft_" in str(node.target) for node in graph.graph.nodes)
        options: dict[str, Any] = {"cpp_wrapper": from_cpp}
        if most_reads is not None:
            options["realize_reads_threshold"] = most_reads
        # from its own cache this layer would take the program without a call of `inner`
        with config.patch(enable_autograd_cache=False):
            whole: Any = compile_fx(graph, list(inputs), inner_compile=inner, config_patches=options)
        call, constants = made[-1].current_callable, []

        def observed(arguments: list[Tensor]) -> Sequence[Tensor]:
            constants[:] = arguments[: len(arguments) - len(inputs)]
            return call(arguments)

        made[-1].current_callable = observed
        whole(*inputs)
    return _Program(call, constants, results)
