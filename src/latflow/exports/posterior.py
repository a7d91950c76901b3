"""A chain for ArviZ: the NetCDF file that `arviz.from_netcdf` opens as `InferenceData`.

Its group "posterior" has the observables that were recorded, and the field where it was, as arrays (chain,
draw, …); its group "sample_stats" what the sampler said of its steps, and `lp` = −S. A draw is a step after
thermalisation. ArviZ counts draws for equally weighted, which they are not where a chain is sampled with the
absolute value of its weight: the attribute "reweighting" then names the series to weight them with.

The layout is the schema of ArviZ; nothing of ArviZ itself is needed to write it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from xarray import Dataset

from latflow.exports.origin import origin
from latflow.runs import ChainName, Group, Run
from latflow.storage import replacing
from latflow.version import __version__


def write_posterior(run: Run, target: Path, groups: Sequence[Group]) -> None:
    """Write the first of the chains, that of the model before the one beside it."""
    chain: ChainName = "beside" if groups[0] == "beside" else "model"
    series = run.dataset(chain).copy(data=run.series(chain)).rename(step="draw")
    known = {one.name for one in run.action.observables}
    own = origin(run)
    attributes = {
        "inference_library": "latflow",
        "inference_library_version": __version__,
        "created_at": own["created"] or "",
        "sampling_time": run.sampling_info(chain)["seconds"],
        "chain": chain,
        "origin": json.dumps(own, ensure_ascii=False),
    }
    if run.action.reweighting is not None:
        attributes["reweighting"] = run.action.reweighting
    stats = series.drop_vars([name for name in series.data_vars if name in known or name == "field"])
    parts = {
        "posterior": series.drop_vars(list(stats.data_vars)),
        "sample_stats": stats.assign(lp=-series["action"]),
    }
    with replacing(target) as temporary:
        for number, (name, part) in enumerate(parts.items()):
            _arranged(part).assign_attrs(attributes).to_netcdf(
                temporary, mode="a" if number else "w", group=name, engine="h5netcdf"
            )


def _arranged(part: Dataset) -> Dataset:
    """With chains first, and the coordinates that ArviZ looks for."""
    sizes = part.sizes
    numbered = {name: np.arange(sizes[name]) for name in ("chain", "draw")}
    return part.drop_attrs().transpose("chain", "draw", ...).assign_coords(numbered)
