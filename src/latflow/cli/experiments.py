"""The command `reproduce`."""

from pathlib import Path

import typer

from latflow.errors import ConfigError
from latflow.papers import EXPERIMENTS, Bench


def print_experiments() -> None:
    """The experiments by name, with what they show and where they come from."""
    for name, experiment in EXPERIMENTS.items():
        typer.echo(f"{name:<{max(map(len, EXPERIMENTS))}}  {experiment.title}")
        typer.echo(f"{'':<{max(map(len, EXPERIMENTS))}}  {experiment.source}")


def perform(name: str, quick: bool, seed: int, out: Path | None) -> None:
    """Run an experiment, and print its findings and where they lie.

    Raises:
        ConfigError: for a name that no experiment has.
        RunFolderError: when the folder belongs to other settings.
    """
    if name not in EXPERIMENTS:
        raise ConfigError(f"expected an experiment out of {', '.join(EXPERIMENTS)}, got {name!r}")
    experiment = EXPERIMENTS[name]
    settings = experiment.quick if quick else experiment.settings
    folder = out or Path("reproduced") / (f"{name}-quick" if quick else name)
    bench = Bench(folder, settings, seed, say=typer.echo)
    findings = experiment.run(bench, settings)
    page = bench.write(experiment.title, findings)
    typer.echo(f"\n{findings.text}")
    for table in findings.tables:
        typer.echo(f"\n{table}")
    typer.echo(f"\n{page}")
