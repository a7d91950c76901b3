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
            help="Its ending tells the format: .nc, .h5, .npz, .json.gz (pyerrors), .zip (a record).",
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
    archive: Annotated[
        bool,
        typer.Option("--archive", help="A record for an archive, as FILE.zip is: the same as --to archive."),
    ] = False,
    with_chains: Annotated[
        bool,
        typer.Option("--with-chains", help="The record has the chains and the weights of the model, too."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write the chains to one file for other tools, or a record of the run for an archive."""
    from latflow.cli import stages
    from latflow.exports import export

    opened = stages.open_run(source)
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} is there already: choose another file, or add --overwrite")
    if archive and to not in (None, "archive"):
        raise ConfigError(f"expected --archive or --to {to}, got both")
    try:
        export(opened, target, "archive" if archive else to, chain, with_chains=with_chains, overwrite=True)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    typer.echo(target)
