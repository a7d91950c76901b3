"""How much memory a computation takes at its peak."""

import contextlib
import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak(device: torch.device) -> bool:
    """Let the peak begin anew; whether that is possible here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")  # which resets VmHWM, on Linux
        return True
    return False


def peak_memory(device: torch.device) -> float:
    """Largest memory so far, in MiB: of the process on the CPU, of PyTorch's tensors on a GPU.

    On Linux it is VmHWM: `ru_maxrss` there starts at what the parent process held.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource  # which Windows has not

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 2**10)
