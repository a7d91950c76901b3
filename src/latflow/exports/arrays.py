"""Chains as NumPy arrays: an .npz file that `numpy.load` opens without pickles."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latflow.exports.origin import origin
from latflow.runs import Group, Run
from latflow.storage import replacing


def write_arrays(run: Run, target: Path, groups: Sequence[Group]) -> None:
    """Write each series, (step, chain, …), as "model/phi_squared", and "origin", JSON in a string."""
    arrays = {f"{group}/{name}": values for group in groups for name, values in run.series(group).items()}
    arrays["origin"] = np.array(json.dumps(origin(run), ensure_ascii=False))
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
