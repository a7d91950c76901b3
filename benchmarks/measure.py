"""What the benchmarks share: interleaved timings, peak memory, markdown tables."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

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


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a markdown table."""
    print("\n| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
