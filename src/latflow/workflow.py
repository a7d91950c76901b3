"""A run from beginning to end, and an ensemble, for those who work in Python."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latflow.errors import ConfigError, RunFolderError

if TYPE_CHECKING:
    from latflow.runs import Run
    from latflow.theories import Action
    from latflow.validation import Judgement, Validation


def judged(run: "Run") -> "Validation":
    """The verdict on what a run has found so far.

    Raises:
        RunFolderError: when there are no numbers yet, or too few.
    """
    from latflow.validation import validate

    run.written()
    try:
        return validate(run)
    except ValueError as error:
        raise RunFolderError(f"{run.path} cannot be judged: {error}") from error


def keep(run: "Run", validation: "Validation") -> None:
    """Keep a verdict in `results.json`, with what a page over many runs says of this one."""
    from latflow.report import mark_of
    from latflow.report.circumstances import theory
    from latflow.report.tables import banner
    from latflow.validation.words import CHAINS

    history = run.history()
    seconds: dict[str, float] = {"training": history[-1]["seconds"]} if history else {}
    for chain in CHAINS:
        if run.settings(chain) is not None:
            seconds[chain] = run.sampling_info(chain)["seconds"]
    observables = [one for one in run.action.observables if one.label]
    run.save_results(
        validation.as_dict()
        | {
            "theory": theory(run.action)[0],
            "summary": banner(validation).lines,
            "main": [one.name for one in observables if one.slow or one.name == "log_z"],
            "seconds": seconds,
            "mark": mark_of(validation),
        }
    )


def complete(run: "Run") -> "Validation":
    """Train, sample, sample beside, validate, and write the report: what `latflow run` does.

    Every stage goes on where it stopped, so a call on a run that is complete computes nothing anew but the
    verdict.

    Returns:
        The verdict; its `passed` says whether everything agrees. The report is `report.html` in the folder.
    """
    from latflow.report import write_report

    run.train()
    run.sample()
    run.sample_beside()
    validation = judged(run)
    keep(run, validation)
    write_report(run, validation)
    return validation


def judge(
    path: Path | str,
    action: "Action",
    *,
    array: str | None = None,
    reference: Mapping[str, str] | None = None,
    couplings: Sequence[Mapping[str, float]] = (),
) -> "Judgement":
    """Read configurations that were made elsewhere, and hold them against everything that is known.

    Args:
        path: of the file; see `ensembles.read_ensemble`.
        action: the theory that they are said to be of.
        array: its name in the file; the only one that fits if None.
        reference: known numbers by the names of observables, as "value(error)".
        couplings: of the same theory, at which averages are wanted by reweighting.

    Returns:
        The verdict and what was measured; see `validation.judge`.

    Raises:
        EnsembleError: for a file that is truncated, damaged or does not fit the theory.
        ConfigError: for couplings that the theory does not have, or a reference that is no number with error.

    Example:
        >>> import latflow as lf, numpy as np, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "free.npy"
        >>> np.save(file, np.random.default_rng(1).normal(size=(400, 4, 4)) / np.sqrt(2 * (4 + 0.5)))
        >>> found = judge(file, lf.actions.Phi4((4, 4), m2=0.5, lam=0.0))
        >>> found.validation.verdict  # without its neighbours' pull it is not the free field
        'failed'
    """
    from latflow.config.checking import check_reference
    from latflow.ensembles import read_ensemble
    from latflow.validation.judgement import judge as judged

    check_reference(reference or {}, action)
    ensemble = read_ensemble(path, action, array)
    try:
        return judged(ensemble, action, reference or {}, couplings)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def keep_judgement(judgement: "Judgement", folder: Path | str, command: str = "") -> Path:
    """Write `results.json` and `report.html` of a judged ensemble into a folder.

    Args:
        judgement: what `judge` found.
        folder: which is made where it is missing; an earlier judgement in it is replaced.
        command: that was typed.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: for the folder of a run, whose results these are not.
        OSError: when it cannot be written.
    """
    from latflow.report import write_judgement
    from latflow.runs.provenance import plain
    from latflow.storage import write_text

    folder = Path(folder)
    if (folder / "config.toml").exists():
        raise RunFolderError(f"{folder} holds a run: choose another folder for what was judged")
    results = json.dumps(plain(judgement.as_dict()), indent=2, allow_nan=False)
    write_text(folder / "results.json", results)
    return write_judgement(judgement, folder, command)
