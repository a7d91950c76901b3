"""Ways to convolve on a torus: milliseconds for one forward and backward pass, as a markdown table.

    python benchmarks/convolution.py --threads 1
    python benchmarks/convolution.py --device cuda

Every way gets the same field, weights and bias and returns the gradients of all three. `bare` is the
convolution of a field that is padded already and keeps its pads: the limit for any way that pads. The repeats
of the ways are interleaved, and the table holds medians.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from latflow.densities.flows.convolution import periodic_convolution, pointwise

Way = Callable[[Tensor, Tensor, Tensor, int], Tensor]

# channels in, channels out, kernel, side, batch, dilation
CASES = [
    (1, 16, 3, 8, 256, 1),
    (16, 16, 3, 8, 256, 1),
    (16, 2, 3, 8, 256, 1),
    (1, 16, 3, 8, 1024, 1),
    (16, 16, 3, 8, 1024, 1),
    (16, 2, 3, 8, 1024, 1),
    (16, 16, 3, 16, 128, 1),
    (16, 16, 3, 16, 1024, 1),
    (64, 64, 3, 16, 16, 2),
    (64, 25, 3, 16, 16, 3),
    (16, 16, 5, 8, 256, 1),
]
SITE_CASES = [(16, 16, 32, 256), (16, 64, 32, 256), (64, 64, 32, 256), (64, 2, 32, 256), (16, 16, 128, 1024)]


def widths(weight: Tensor, dilation: int) -> list[int]:
    """Sites to add at both ends of each direction."""
    return [dilation * (side // 2) for side in weight.shape[2:]]


def concatenated_pads(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """The field with its periodic continuation, one concatenation a direction."""
    for axis, width in enumerate(widths(weight, dilation), start=2):
        side = x.shape[axis]
        x = torch.cat((x.narrow(axis, side - width, width), x, x.narrow(axis, 0, width)), axis)
    return x


def bare(padded: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """The library's convolution, of a field that is padded already."""
    return functional.conv2d(padded, weight, bias, dilation=dilation)


def circular(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Pads by the library's circular mode."""
    pads = [width for width in reversed(widths(weight, dilation)) for _ in range(2)]
    return bare(functional.pad(x, pads, mode="circular"), weight, bias, dilation)


def concatenation(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Pads by concatenation, and their gradient by autograd."""
    return bare(concatenated_pads(x, weight, dilation), weight, bias, dilation)


def channels_last(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Pads by concatenation, with the channels of a site side by side in memory."""
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    return bare(concatenated_pads(x, weight, dilation), weight, bias, dilation)


class _Folded(torch.autograd.Function):
    """Pads whose gradient is added to the edges in place."""

    @staticmethod
    def forward(ctx, x, pads):
        ctx.pads = pads
        for axis, width in enumerate(pads, start=2):
            side = x.shape[axis]
            x = torch.cat((x.narrow(axis, side - width, width), x, x.narrow(axis, 0, width)), axis)
        return x

    @staticmethod
    def backward(ctx, gradient):
        for axis, width in enumerate(ctx.pads, start=2):
            side = gradient.shape[axis] - 2 * width
            core = gradient.narrow(axis, width, side).clone(memory_format=torch.contiguous_format)
            core.narrow(axis, side - width, width).add_(gradient.narrow(axis, 0, width))
            core.narrow(axis, 0, width).add_(gradient.narrow(axis, side + width, width))
            gradient = core
        return gradient, None


def folded(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Pads by concatenation, and their gradient by a fold."""
    return bare(_Folded.apply(x, widths(weight, dilation)), weight, bias, dilation)


def shifts(weight: Tensor, dilation: int) -> list[tuple[int, ...]]:
    """How far to roll the field for each tap of the kernel."""
    return [
        tuple(-dilation * (t - side // 2) for t, side in zip(tap, weight.shape[2:], strict=True))
        for tap in itertools.product(*map(range, weight.shape[2:]))
    ]


def gathered(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """All neighbours in a table of batch-last columns, then one matrix product."""
    lattice = x.shape[2:]
    sites = torch.arange(lattice.numel(), device=x.device).reshape(lattice)
    table = torch.cat([sites.roll(shift, (0, 1)).flatten() for shift in shifts(weight, dilation)])
    columns = x.flatten(1).t().contiguous().unflatten(0, (x.shape[1], -1)).index_select(1, table)
    y = torch.addmm(bias[:, None], weight.flatten(1), columns.reshape(weight[0].numel(), -1))
    return y.reshape(-1, len(x)).t().contiguous().reshape(len(x), -1, *lattice)


def rolled(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """A rolled field and a matrix product for each tap of the kernel."""
    taps = weight.flatten(2).unbind(2)
    terms = (
        torch.matmul(w, x.roll(shift, (2, 3)).flatten(2))
        for w, shift in zip(taps, shifts(weight, dilation), strict=True)
    )
    return (sum(terms) + bias[:, None]).reshape(len(x), -1, *x.shape[2:])


def chunked(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """`periodic_convolution` in pieces of the batch with one mebibyte of features each."""
    size = max(1, 2**18 // (max(weight.shape[:2]) * x.shape[2:].numel()))
    return torch.cat([periodic_convolution(piece, weight, bias, dilation) for piece in x.split(size)])


WAYS: dict[str, Way] = {
    "circular": circular,
    "concatenation": concatenation,
    "folded pads": folded,
    "channels last": channels_last,
    "gathered": gathered,
    "rolled": rolled,
    "chunked": chunked,
    "**periodic_convolution**": periodic_convolution,
    "bare": bare,
}
SITE_WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "conv1d": lambda x, weight, bias: functional.conv1d(x, weight[..., None], bias),
    "matmul": lambda x, weight, bias: weight @ x + bias[:, None],
    "einsum": lambda x, weight, bias: torch.einsum("oc,bcn->bon", weight, x) + bias[:, None],
    "linear": lambda x, weight, bias: functional.linear(x.transpose(1, 2), weight, bias).transpose(1, 2),
    "**pointwise**": pointwise,
}


def medians(passes: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Seconds of each pass; those of a single CPU thread are its own, so that other work does not count."""
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(repeats):
        for name, run in passes.items():
            run()  # leaves cache and allocator as this way, not the one before it, leaves them
            synchronize()
            start = clock()
            run()
            synchronize()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def gradients(way: Callable[..., Tensor], *arguments: Tensor) -> Callable[[], object]:
    """A forward and backward pass of `way` to all its arguments."""
    leaves = [argument.detach().requires_grad_() for argument in arguments]
    output = torch.ones_like(way(*leaves))
    return lambda: torch.autograd.grad(way(*leaves), leaves, output)


def convolution_row(case: tuple[int, ...], repeats: int, device: torch.device) -> list[str]:
    """A row of the first table."""
    channels_in, channels_out, kernel, side, batch, dilation = case
    x = torch.randn(batch, channels_in, side, side, device=device)
    weight = torch.randn(channels_out, channels_in, kernel, kernel, device=device)
    bias = torch.randn(channels_out, device=device)
    passes = {
        name: gradients(
            lambda *tensors, way=way: way(*tensors, dilation),
            concatenated_pads(x, weight, dilation) if way is bare else x,
            weight,
            bias,
        )
        for name, way in WAYS.items()
    }
    label = f"{channels_in} → {channels_out}, kernel {kernel}, dilation {dilation}, {side}², batch {batch}"
    return [label, *(f"{1e3 * value:.2f}" for value in medians(passes, repeats, device).values())]


def site_row(case: tuple[int, ...], repeats: int, device: torch.device) -> list[str]:
    """A row of the second table."""
    channels_in, channels_out, sites, batch = case
    x = torch.randn(batch, channels_in, sites, device=device)
    weight, bias = (
        torch.randn(channels_out, channels_in, device=device),
        torch.randn(channels_out, device=device),
    )
    passes = {name: gradients(way, x, weight, bias) for name, way in SITE_WAYS.items()}
    label = f"{channels_in} → {channels_out}, {sites} sites, batch {batch}"
    return [label, *(f"{1e3 * value:.2f}" for value in medians(passes, repeats, device).values())]


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a markdown table."""
    print("\n| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def main() -> None:
    """Reads the options and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--repeats", default=15, type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {options.device}, {options.threads} threads, float32; milliseconds")
    rows = [convolution_row(case, options.repeats, options.device) for case in CASES]
    print_table(["convolution", *WAYS], rows)
    rows = [site_row(case, options.repeats, options.device) for case in SITE_CASES]
    print_table(["single sites", *SITE_WAYS], rows)


if __name__ == "__main__":
    main()
