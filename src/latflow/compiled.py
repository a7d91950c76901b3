"""Functions of named tensors as one compiled call each: the one place that knows private parts of PyTorch."""

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

Named = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""A function of tensors by name."""

SEEN_WITH = ("2.13",)
"""The versions of PyTorch whose private parts are as this file expects them."""

_FAILURES = (ImportError, AttributeError, TypeError, ValueError, LookupError, AssertionError, RuntimeError)
"""What parts raise that are not as expected, and compilers that fail."""


def can_compile() -> bool:
    """Whether a C++ compiler is found, without which `torch.compile` makes nothing for the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl"))


def as_foreseen() -> bool:
    """Whether functions are compiled the fast way: there is a C++ compiler, and a version in `SEEN_WITH`."""
    return can_compile() and _is_known()


def _is_known() -> bool:
    return ".".join(torch.__version__.split(".")[:2]) in SEEN_WITH


@cache
def _say(what: str) -> None:
    """Warn, once in a process."""
    warnings.warn(what, RuntimeWarning, stacklevel=4)


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

    That goes through private parts of PyTorch. With a version other than those in `SEEN_WITH`, or when they
    fail, the public `torch.compile` takes their place, and without a C++ compiler the function is called as
    it is; a warning says so.
    """

    def __init__(self) -> None:
        self._made: dict[Any, _Program] = {}
        self._operations: dict[Any, int | None] = {}

    def run(
        self, function: Named, arguments: dict[str, Tensor], most_reads: int | None = None
    ) -> dict[str, Tensor]:
        """`function(arguments)`, compiled at the first call with such arguments.

        Args:
            function: of tensors by name, in batches of one length; pure, with results likewise, and known by
                its name.
            arguments: the tensors, in the same order at each call.
            most_reads: values that are used again are stored, not computed again, if they are made of more
                tensors than this; the compiler's own choice if None.
        """
        inputs = [x.contiguous() for x in arguments.values()]
        key = _key(function, arguments)
        program = self._made.get(key)
        if program is None:
            program = self._made[key] = _made(function, list(arguments), inputs, most_reads)
        return dict(zip(program.results, program.call([*program.constants, *inputs]), strict=True))

    def operations(self, function: Named, arguments: dict[str, Tensor]) -> int | None:
        """How many operations the graph of `function(arguments)` has: compiling takes time in proportion.

        None where it cannot be traced.
        """
        key = _key(function, arguments)
        if key not in self._operations:
            try:
                graph, _ = _traced(function, list(arguments), list(arguments.values()))
                self._operations[key] = len(graph.graph.nodes)
            except _FAILURES:
                self._operations[key] = None
        return self._operations[key]


def _key(function: Named, arguments: dict[str, Tensor]) -> tuple[Any, ...]:
    first, *others = arguments.values()
    return function.__name__, first.dtype, first.device, first.shape, *(x.shape for x in others)


def _made(function: Named, names: list[str], inputs: list[Tensor], most_reads: int | None) -> _Program:
    """The program by the fastest way that works here."""
    if inputs[0].device.type == "cpu" and not can_compile():
        _say("no C++ compiler was found, so nothing is compiled: the same numbers, at less speed")
        return _plain(function, names, inputs)
    if _is_known():
        try:
            return _compiled(function, names, inputs, most_reads)
        except _FAILURES as error:
            reason = f"the compiler of PyTorch {torch.__version__} failed ({_in_a_line(error)})"
    else:
        reason = f"PyTorch {torch.__version__} is none of the versions known here ({', '.join(SEEN_WITH)})"
    try:
        program = _publicly(function, names, inputs)
    except _FAILURES as error:
        _say(f"{reason}, and torch.compile as well ({_in_a_line(error)}): nothing is compiled")
        return _plain(function, names, inputs)
    _say(f"{reason}: the public torch.compile takes its place, at less speed")
    return program


def _in_a_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]


def _flat(function: Named, names: list[str], results: list[str]) -> Callable[..., tuple[Tensor, ...]]:
    """The function of tensors in the order of `names`; it notes the names of its results."""

    def flat(*values: Tensor) -> tuple[Tensor, ...]:
        found = function({name: values[i] for i, name in enumerate(names)})
        results[:] = found
        return tuple(found.values())

    return flat


def _plain(function: Named, names: list[str], inputs: list[Tensor]) -> _Program:
    results: list[str] = []
    flat = _flat(function, names, results)
    flat(*inputs)
    return _Program(lambda arguments: flat(*arguments), [], results)


def _publicly(function: Named, names: list[str], inputs: list[Tensor]) -> _Program:
    try:
        # of the graph nothing must be understood but tensors
        flat, results = _traced(function, names, inputs)
    except _FAILURES:
        results = []
        flat = _flat(function, names, results)
        flat(*inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about internals of the compiler
        compiled = torch.compile(flat)
        compiled(*inputs)
    return _Program(lambda arguments: compiled(*arguments), [], results)


def _traced(function: Named, names: list[str], inputs: list[Tensor]) -> tuple[Any, list[str]]:
    """The graph of a function of tensors in the order of `names`, and the names of its results."""
    results: list[str] = []
    with warnings.catch_warnings(), torch.no_grad():
        # the import, which takes a second, changes the filters as well
        warnings.simplefilter("ignore")
        from torch.fx.experimental.proxy_tensor import make_fx

        return make_fx(_flat(function, names, results))(*inputs), results


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
