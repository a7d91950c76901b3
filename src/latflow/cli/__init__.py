"""The command line. Nothing heavy is imported before a command needs it, so that `--help` answers at once."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from latflow import __version__
from latflow.cli.explain import explained

app = typer.Typer(
    name="latflow",
    help="Sample lattice field theories with normalizing flows, and prove that the numbers are right.",
    epilog="Exit codes: 0 all well; 1 a validation failed; 2 wrong input or a run that cannot go on; "
    "74 the disk is full or cannot be written; 130 Ctrl-C and 143 SIGTERM, with everything saved.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

Source = Annotated[
    str, typer.Argument(metavar="PRESET|FILE|DIR", help="A preset, a TOML file, or the folder of a run.")
]
Existing = Annotated[str, typer.Argument(metavar="DIR|PRESET", help="The folder of a run, or its preset.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Change one key, such as training.batch=512."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The folder of the run; runs/NAME if none.")
]


def main() -> None:
    """Run the command line."""
    # threads that spin while they wait cost a factor of ten and more on cores that others use, too
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app(prog_name="latflow")


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"latflow {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


@app.command()
@explained
def run(source: Source, override: Overrides = None, out: Out = None) -> None:
    """Train, sample, run HMC or clusters beside it, validate, report; go on where an earlier call stopped."""
    from latflow.cli import stages

    opened = stages.trained(source, override or (), out)
    stages.sample(opened)
    results = stages.validate(opened)
    report = stages.report(opened, results)
    stages.print_results(opened, results)
    typer.echo(report)
    _exit_by(results)


@app.command()
@explained
def train(source: Source, override: Overrides = None, out: Out = None) -> None:
    """Train the flow or the network to the end of its steps."""
    from latflow.cli import stages

    opened = stages.trained(source, override or (), out)
    typer.echo(opened.path)


@app.command()
@explained
def sample(source: Source, override: Overrides = None, out: Out = None) -> None:
    """Sample with what was trained and with HMC or clusters; train first where that is not done."""
    from latflow.cli import stages

    opened = stages.trained(source, override or (), out)
    stages.sample(opened)
    typer.echo(opened.path)


@app.command()
@explained
def validate(source: Existing) -> None:
    """Print the verdict on what is sampled so far: Neural MCMC, NIS, HMC or clusters, exact numbers."""
    from latflow.cli import stages

    opened = stages.open_run(source)
    results = stages.validate(opened)
    stages.print_results(opened, results)
    _exit_by(results)


@app.command()
@explained
def report(source: Existing) -> None:
    """Write the report of what is sampled so far, and print its path."""
    from latflow.cli import stages

    opened = stages.open_run(source)
    typer.echo(stages.report(opened, stages.validate(opened)))


@app.command()
@explained
def export(
    source: Existing,
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="A path that ends in .nc (NetCDF) or .h5 (HDF5).")
    ],
) -> None:
    """Write the chains to one file for other tools."""
    from latflow.cli import stages

    opened = stages.open_run(source)
    try:
        opened.export(target)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(target)


@app.command()
@explained
def presets() -> None:
    """List the configurations that come with latflow."""
    from latflow.config import load_config, preset_names

    names = preset_names()
    for name in names:
        typer.echo(f"{name:<{max(map(len, names))}}  {load_config(name).description}")


@app.command()
@explained
def reproduce(
    experiment: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="An experiment; all are listed if none is named.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes; the numbers mean nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(help="From which every generator is derived.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The folder; reproduced/NAME if none.")
    ] = None,
) -> None:
    """Do an experiment of a paper again, with its table and figure; go on where an earlier call stopped."""
    from latflow.cli.experiments import perform, print_experiments

    if experiment is None:
        print_experiments()
    else:
        perform(experiment, quick, seed, out)


def _exit_by(results: dict[str, Any]) -> None:
    if not results["passed"]:
        raise typer.Exit(1)
