"""How a command that has sampled ends: with the verdict, the page, and a status by the verdict."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from latflow.runs import Run
    from latflow.validation import Validation

_STATUS = {"passed": 0, "failed": 1, "inconclusive": 3}


def conclude(run: "Run", validation: "Validation") -> None:
    """Keep a verdict, report, print, and exit by it."""
    from latflow.cli import stages
    from latflow.workflow import keep

    keep(run, validation)
    page = stages.report(run, validation)
    stages.show(run, validation)
    typer.echo(page)
    exit_by(validation)


def exit_by(validation: "Validation") -> None:
    """End with the status of a verdict, where that is not a pass."""
    if status := _STATUS[validation.verdict]:
        raise typer.Exit(status)
