"""How a command that has sampled ends: with the verdict, the page, and a status by the verdict."""

from typing import TYPE_CHECKING

import typer

from latflow.cli.explain import exit_by

if TYPE_CHECKING:
    from latflow.runs import Run


def conclude(run: "Run", quiet: bool = False) -> None:
    """Validate, report, print, and exit by the verdict."""
    from latflow.cli import stages
    from latflow.workflow import judged, keep

    validation = judged(run)
    keep(run, validation)
    page = stages.report(run, validation)
    stages.show(run, validation, quiet)
    typer.echo(page)
    exit_by(validation.verdict)
