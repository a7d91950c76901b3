"""Put the results of an experiment into the documentation: `python -m latflow_papers.publish FOLDER`."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from latflow.errors import LatflowError, RunFolderError
from latflow_papers.results import RESULTS, Results


def publish(folder: Path, docs: Path) -> list[Path]:
    """Copy results to `docs/experiments`, and the first figure to `docs/images` where that shows one of them.

    Args:
        folder: of the experiment.
        docs: of the documentation.

    Returns:
        The files that were written.

    Raises:
        CheckpointError: when the folder holds no results.
        RunFolderError: when they are those of quick settings, or `docs` is no documentation.
    """
    results = Results.load(folder / RESULTS)
    if results.quick:
        raise RunFolderError(f"{folder} holds results of quick settings: expected those of the paper")
    if not (docs / "experiments").is_dir():
        raise RunFolderError(
            f"expected a folder of documentation with results in it at {docs / 'experiments'}"
        )
    path = docs / "experiments" / f"{results.experiment}.json"
    results.save(path)
    written = [path]
    picture = docs / "images" / f"{results.experiment}.png"
    if picture.is_file():
        shutil.copyfile(folder / f"{results.figures[0]}.png", picture)
        written.append(picture)
    return written


def main(
    folder: Annotated[Path, typer.Argument(help="A folder in which `latflow reproduce` has worked.")],
    docs: Annotated[Path, typer.Option(help="The documentation.")] = Path("docs"),
) -> None:
    """Put the results of a finished experiment into the documentation."""
    try:
        for path in publish(folder, docs):
            typer.echo(path)
    except LatflowError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
