"""The command `index`: a page over the runs of a folder."""

from pathlib import Path
from typing import Annotated

import typer

from latflow.cli.arguments import user_path


def index(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="With runs in it; runs if none.", parser=user_path),
    ] = None,
) -> None:
    """Write index.html over the runs of a folder, with links to their reports, and print its path."""
    from latflow.report.index import write_index

    page, runs = write_index(folder or Path("runs"))
    for run in runs:
        if run.state in ("outdated", "damaged"):
            typer.echo(f"latflow: {run.path}: {run.why}", err=True)
    typer.echo(page)
