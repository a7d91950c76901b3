"""The command that writes chains and records of a run for other tools."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from latflow.cli.arguments import Existing, user_path
from latflow.errors import ConfigError


def export(
    source: Existing,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Its ending tells the format: .nc, .h5, .npz, .json.gz (pyerrors).",
            parser=user_path,
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="FORMAT", help="Where the ending does not: arviz (.nc) or configurations (.npz)."
        ),
    ] = None,
    chain: Annotated[
        Literal["model", "beside"] | None,
        typer.Option("--chain", help="This chain alone; an ArviZ file has that of the model otherwise."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write the chains to one file for other tools."""
    from latflow.cli import stages
    from latflow.exports import export

    opened = stages.open_run(source)
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} is there already: choose another file, or add --overwrite")
    try:
        export(opened, target, to, chain, overwrite=True)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    typer.echo(target)
