"""A run from beginning to end, for those who work in Python."""

from typing import TYPE_CHECKING

from latflow.errors import RunFolderError

if TYPE_CHECKING:
    from latflow.runs import Run
    from latflow.validation import Validation


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
