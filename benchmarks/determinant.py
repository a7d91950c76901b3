"""log|det D| of Wilson fermions by elimination and by the dense operator: seconds and peak memory.

    python benchmarks/determinant.py --threads 1
    python benchmarks/determinant.py --device cuda --sides 16 32 64

Milliseconds for one configuration of random links, for the action alone, for the action and its gradient, for
log|det D|, sign and condensate, and for the pion correlator from one time slice. The dense operator is one
vectorised LU factorisation, on the CPU one matrix after another above a size (`latflow.wilson.linear_algebra`
says why); it is left out where it would take minutes or too much memory. Exponents are those of fits of
log t to log L from L = 24 on. Repeats are interleaved, and the tables hold medians; the memory is that of one
pass in a process of its own, above what the process held before.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from latflow.observables import pion_correlator
from latflow.planning.memory import peak_memory
from latflow.wilson import Boundary, dense_log_abs_det, determinant_and_condensate, log_abs_det
from measure import print_table, seconds

KAPPA = 0.276
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LogDet = Callable[[Tensor, float, Boundary], tuple[Tensor, Tensor]]
FIT_FROM = 24


def random_links(side: int, batch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Uniform angles: neither free nor near a zero mode."""
    generator = torch.Generator(device).manual_seed(0)
    angles = torch.rand(batch, 2, side, side, generator=generator, dtype=dtype, device=device)
    return 2 * math.pi * angles


def value(log_det: LogDet, links: Tensor) -> Callable[[], object]:
    """log|det D| without a graph."""
    return lambda: log_det(links, KAPPA, "antiperiodic")


def gradient(log_det: LogDet, links: Tensor) -> Callable[[], object]:
    """log|det D| and its gradient."""
    leaf = links.clone().requires_grad_()
    return lambda: torch.autograd.grad(log_det(leaf, KAPPA, "antiperiodic")[0].sum(), leaf)


WAYS: dict[str, dict[str, Callable[[Tensor], Callable[[], object]]]] = {
    "dense": {
        "action": lambda links: value(dense_log_abs_det, links),
        "action + gradient": lambda links: gradient(dense_log_abs_det, links),
    },
    "reduced": {
        "action": lambda links: value(log_abs_det, links),
        "action + gradient": lambda links: gradient(log_abs_det, links),
        "condensate": lambda links: lambda: determinant_and_condensate(links, KAPPA),
        "pion": lambda links: lambda: pion_correlator(links, KAPPA),
    },
}


def milliseconds(side: int, dtype: torch.dtype, options: argparse.Namespace) -> dict[tuple[str, str], float]:
    """Milliseconds for a configuration by every way that is affordable."""
    batches = {"dense": max(1, (16 // side) ** 4), "reduced": max(1, options.numbers // side**3)}
    passes, size = {}, {}
    for way, what in ((way, what) for way, kinds in WAYS.items() for what in kinds):
        if way == "dense" and side > options.largest_dense:
            continue
        links = random_links(side, batches[way], dtype, options.device)
        name = f"{way} {what}"
        passes[name], size[way, what] = WAYS[way][what](links), (name, len(links))
    taken = seconds(passes, options.repeats, options.device)
    return {key: 1e3 * taken[name] / batch for key, (name, batch) in size.items()}


def exponent(sides: list[int], times: list[float]) -> float:
    """The slope of log t over log L."""
    return float(np.polyfit(np.log(sides), np.log(times), 1)[0])


def print_times(dtype: str, options: argparse.Namespace) -> None:
    """Table of one precision, and the exponents."""
    keys = [(way, what) for way, kinds in WAYS.items() for what in kinds]
    rows, columns = [], {key: ([], []) for key in keys}
    for side in options.sides:
        found = milliseconds(side, DTYPES[dtype], options)
        for key, time in found.items():
            columns[key][0].append(side)
            columns[key][1].append(time)
        cells = [f"{found[key]:.4g}" if key in found else "–" for key in keys]
        gains = [
            f"{found['dense', what] / found['reduced', what]:.1f}" if ("dense", what) in found else "–"
            for what in WAYS["dense"]
        ]
        ratio = found["reduced", "action + gradient"] / found["reduced", "action"]
        rows.append([f"{side}²", *cells, *gains, f"{ratio:.2f}"])
    exponents = []
    for sides, times in columns.values():
        points = [(side, time) for side, time in zip(sides, times, strict=True) if side >= FIT_FROM]
        exponents.append(f"{exponent(*map(list, zip(*points, strict=True))):.2f}" if len(points) > 1 else "–")
    rows.append([f"exponent, L ≥ {FIT_FROM}", *exponents, "", "", ""])
    ratios = [f"dense / reduced, {what}" for what in WAYS["dense"]]
    header = [f"{dtype}, ms", *(" ".join(key) for key in keys), *ratios, "reduced: with gradient / action"]
    print_table(header, rows)


def memory_of(way: str, what: str, side: int, dtype: str, options: argparse.Namespace) -> str:
    """Peak memory of one pass over one configuration in MiB, measured in a process of its own."""
    only = [way, what, str(side), dtype]
    command = [sys.executable, __file__, f"--device={options.device}", f"--threads={options.threads}"]
    return subprocess.run(
        [*command, "--only", *only], capture_output=True, text=True, check=True
    ).stdout.strip()


def print_memory(only: list[str], options: argparse.Namespace) -> None:
    """Runs one pass, and prints its peak memory after a small one."""
    way, what, side, dtype = only
    WAYS[way][what](random_links(4, 1, DTYPES[dtype], options.device))()
    before = peak_memory(options.device)
    WAYS[way][what](random_links(int(side), 1, DTYPES[dtype], options.device))()
    print(f"{peak_memory(options.device) - before:.0f}")


def memory_rows(options: argparse.Namespace) -> list[list[str]]:
    """Peak memory of the largest lattice for each way, and of the largest dense one."""
    rows = []
    largest_dense = max((side for side in options.sides if side <= options.largest_dense), default=0)
    for side in sorted({largest_dense, max(options.sides)} - {0}):
        for dtype in DTYPES:
            cells = [
                memory_of(way, what, side, dtype, options)
                if way == "reduced" or side <= options.largest_dense
                else "–"
                for way in WAYS
                for what in WAYS["dense"]
            ]
            rows.append([f"{side}², {dtype}", *cells])
    return rows


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sides", default=[8, 16, 24, 32, 48, 64], type=int, nargs="+")
    parser.add_argument("--largest-dense", default=32, type=int)
    parser.add_argument("--numbers", default=2**17, type=int, help="L³ times the batch of the reduced ways")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--repeats", default=5, type=int)
    parser.add_argument("--quick", action="store_true", help="one repeat, dense up to L = 16")
    parser.add_argument("--only", nargs=4, help="print the memory of a way, what, side and precision alone")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.largest_dense = 1, 16
    torch.set_num_threads(options.threads)
    if options.only:
        print_memory(options.only, options)
        return
    print(f"κ = {KAPPA}, {options.device}, {options.threads} threads; milliseconds for one configuration")
    for dtype in DTYPES:
        print_times(dtype, options)
    ways = [f"{way} {what}" for way in WAYS for what in WAYS["dense"]]
    print_table(["peak MiB of one configuration", *ways], memory_rows(options))


if __name__ == "__main__":
    main()
