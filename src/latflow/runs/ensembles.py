"""Configurations of files in a run, at which chains begin, and those of a run in a file."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from latflow.config import ChainPlan
from latflow.ensembles import read_ensemble, write_ensemble
from latflow.errors import ConfigError, EnsembleError, RunFolderError
from latflow.estimators import estimator_of
from latflow.theories import Action

if TYPE_CHECKING:
    from latflow.runs.folder import RunFolder
    from latflow.runs.growth import ChainName
    from latflow.runs.run import Run


def check_files(folder: "RunFolder") -> dict[str, str]:
    """Read the files of configurations that a new run needs, before there is a folder.

    Returns:
        The checksums by their paths.

    Raises:
        ConfigError: naming the key, and what is wrong with its file.
    """
    action, training, beside = folder.action, folder.config.training, folder.config.beside
    found: dict[str, str] = {}
    key = "training.estimator_options"
    try:
        if training is not None:
            estimator = estimator_of(training.estimator, training.estimator_options)
            found |= estimator.prepare(action)
        key = "beside.start"
        if beside is not None and beside.start is not None:
            found |= starting_fields(beside, action)[1]
    except EnsembleError as error:
        raise ConfigError(f"{key}: {error}") from error
    return found


def starting_fields(plan: ChainPlan, action: Action) -> tuple[Tensor, dict[str, str]]:
    """The configurations at which chains begin, (chains, …), and the checksum of their file by its path.

    The last of each chain of the file, and as many earlier ones, evenly spread over it, as there are chains.

    Raises:
        EnsembleError: for a file that does not fit, and one with fewer configurations than chains.
    """
    assert plan.start is not None
    ensemble = read_ensemble(Path(plan.start), action)
    steps, there = ensemble.fields.shape[:2]
    if steps * there < plan.chains:
        raise EnsembleError(
            f"{plan.start}: expected at least {plan.chains} configurations, one for each chain, got "
            f"{steps * there}"
        )
    rounds = -(-plan.chains // there)
    picked = [steps - 1 - number * steps // rounds for number in range(rounds)]
    fields = ensemble.fields[picked].flatten(0, 1)[: plan.chains]
    return fields, {plan.start: ensemble.digest}


def export_configurations(run: "Run", target: Path, chain: "ChainName | None" = None) -> None:
    """Write the configurations of a chain to an .npz file with a side-car, as `ensembles.write_ensemble`.

    Args:
        run: with `sampling.save_fields`.
        target: ends in .npz.
        chain: whose; that of the model, where the run has one, if None.

    Raises:
        RunFolderError: when the chain has not begun, or its configurations were not kept.
    """
    name = chain or ("model" if run.config.model is not None else "beside")
    series, plan = run.series(name), run.settings(name)
    if plan is None or not series:
        raise RunFolderError(f"{run.path} holds no chain {name!r} yet: `latflow sample {run.path}` makes it")
    fields: np.ndarray | None = series.get("field")
    if fields is None:
        raise RunFolderError(
            f"{run.path} has kept no configurations: a run with sampling.save_fields=true does"
        )
    write_ensemble(
        target,
        fields,
        run.config.action.table(),
        run=run.config.name,
        description=run.config.description,
        chain=name,
        kernels=list(plan.kernels),
        thermalisation=plan.thermalisation,
        seed=run.config.seed,
    )
