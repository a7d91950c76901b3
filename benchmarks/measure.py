"""What the benchmarks share: interleaved timings, peak memory, markdown tables."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch


def seconds(
    passes: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each pass, the repeats of all passes interleaved.

    On one CPU thread these are the seconds of that thread, so that other work on the machine does not count;
    else they are those of the wall.
    """
    for run in passes.values():
        run()
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(repeats):
        for name, run in passes.items():
            synchronize(device)
            start = clock()
            run()
            synchronize(device)
            taken[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> float:
    """Largest memory so far, in MiB: of the process on the CPU, of PyTorch's tensors on a GPU.

    On Linux it is VmHWM: `ru_maxrss` there starts at what the parent process held.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 2**10)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a markdown table."""
    print("\n| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
