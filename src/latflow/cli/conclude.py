"""How a command that has sampled ends: with the verdict, the page, and a status by the verdict."""

from typing import TYPE_CHECKING

import typer

from latflow.cli.explain import exit_by

if TYPE_CHECKING:
    from latflow.runs import Run
    from latflow.validation import Validation


def conclude(run: "Run", validation: "Validation", quiet: bool = False) -> None:
    """Keep a verdict, report, print, and exit by it."""
    from latflow.cli import stages
    from latflow.workflow import keep

    keep(run, validation)
    page = stages.report(run, validation)
    stages.show(run, validation, quiet)
    typer.echo(page)
    exit_by(validation.verdict)
