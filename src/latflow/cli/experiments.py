"""The command `reproduce`: experiments that packages announce by the entry point `latflow.experiments`.

An experiment is an object with `title`, `source`, and a method `perform(folder, quick, seed, say)` which does
it, says how far it is, and returns the text to print at the end.
"""

from pathlib import Path

import typer

from latflow.registry import load, names


def print_experiments() -> None:
    """The experiments by name, with what they show and where they come from."""
    width = max(map(len, names("experiments")), default=0)
    for name in names("experiments"):
        experiment = load("experiments", name)
        typer.echo(f"{name:<{width}}  {experiment.title}")
        typer.echo(f"{'':<{width}}  {experiment.source}")


def print_documents() -> None:
    """The tables and figures of documents that packages announce by the entry point `latflow.documents`."""
    for name in names("documents"):
        for line in load("documents", name)():
            typer.echo(line)


def perform(name: str, quick: bool, seed: int, out: Path | None) -> None:
    """Do an experiment, and print its findings and where they lie.

    Raises:
        ConfigError: for a name that no experiment has.
        RunFolderError: when the folder belongs to other settings.
    """
    experiment = load("experiments", name)
    folder = out or Path("reproduced") / (f"{name}-quick" if quick else name)
    typer.echo(experiment.perform(folder, quick=quick, seed=seed, say=typer.echo))
