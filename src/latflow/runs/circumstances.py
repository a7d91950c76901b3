"""Everything outside the configuration of a run on which its numbers may depend."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from latflow.config import RunConfig
from latflow.runs.commit import commit
from latflow.training.world import launched
from latflow.version import __version__


def circumstances(config: RunConfig) -> dict[str, Any]:
    """Machine, versions, device and time of now: what `run.json` says of how numbers were made."""
    packages = ("torch", "numpy", "xarray", "zarr", "pyerrors")
    device = config.compute.torch_device()
    return {
        "latflow": __version__,
        **({} if (source := commit()) is None else {"commit": source}),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "seed": config.seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "platform": platform.platform(),
        "host": platform.node(),
        "processors": os.cpu_count(),
        "threads": config.compute.threads or torch.get_num_threads(),
        "processes": launched().size,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command() -> str:
    """The one that this process was started by."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
