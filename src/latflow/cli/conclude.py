"""How a command that has sampled ends: with the verdict, the page, and a status by the verdict."""

from typing import TYPE_CHECKING

import typer

from latflow.cli.explain import STATUS

if TYPE_CHECKING:
    from latflow.runs import Run
    from latflow.validation import Validation


def conclude(run: "Run", quiet: bool = False) -> None:
    """Validate, report, print, and exit by the verdict."""
    from latflow.cli import stages
    from latflow.workflow import judged, keep

    validation = judged(run)
    keep(run, validation)
    page = stages.report(run, validation)
    stages.show(run, validation, quiet)
    typer.echo(page)
    exit_by(validation)


def exit_by(validation: "Validation") -> None:
    """End with the status of a verdict, where that is not a pass."""
    if status := STATUS[validation.verdict]:
        raise typer.Exit(status)
