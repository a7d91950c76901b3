"""Where numbers come from, as every file says it that leaves a run."""

from typing import Any

from latflow.config import to_toml
from latflow.runs import Run

_VERSIONS = ("latflow", "commit", "python", "torch", "numpy", "xarray", "zarr", "pyerrors")


def origin(run: Run) -> dict[str, Any]:
    """The theory and its couplings, the seed, versions, and the configuration as TOML: of plain JSON.

    A run that went on elsewhere has its later `versions` in `resumed`.
    """
    info, action = run.info, run.action
    return {
        "run": run.config.name,
        "description": run.config.description,
        "theory": action.words.name,
        "lattice": list(action.lattice),
        "couplings": action.coupling_constants,
        "seed": run.config.seed,
        "versions": _versions(info),
        "device": info.get("device"),
        "created": info.get("created"),
        "resumed": [{"created": one.get("created"), **_versions(one)} for one in info.get("resumed", [])],
        "configuration": to_toml(run.config),
    }


def _versions(info: dict[str, Any]) -> dict[str, Any]:
    return {name: info[name] for name in _VERSIONS if info.get(name) is not None}
