"""The command line. Nothing heavy is imported before a command needs it, so that `--help` answers at once."""

from pathlib import Path
from typing import Annotated

import typer

from latflow.cli.arguments import Existing, Jobs, Out, Overrides, Quiet, Source, Sources, user_path
from latflow.cli.conclude import conclude
from latflow.cli.explain import exit_by, explained
from latflow.cli.export import export
from latflow.cli.index import index
from latflow.cli.judge import judge
from latflow.cli.plan import plan
from latflow.cli.profile import profile
from latflow.errors import ConfigError
from latflow.version import __version__

app: typer.Typer = typer.Typer(
    name="latflow",
    help="Sample lattice field theories with normalizing flows, and prove that the numbers are right.",
    epilog="Exit codes: 0 all well; 1 a validation failed; 2 wrong input or a run that cannot go on; "
    "3 a validation is inconclusive; "
    "70 a defect of latflow; 74 the disk is full or cannot be written; 129 SIGHUP, 130 Ctrl-C, 141 a closed "
    "pipe and 143 SIGTERM, with everything saved.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


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
def run(
    source: Source, override: Overrides = None, out: Out = None, quiet: Quiet = False, jobs: Jobs = 1
) -> None:
    """Train, sample with the model and beside it, validate, report; go on where an earlier call stopped.

    Lists of values, such as action.beta=[0.40, 0.44, 0.48], make a scan: a folder of runs, scans/NAME if no
    other is given.
    """
    from latflow.cli import stages
    from latflow.workflow import judged

    found = stages.run_or_scan(source, override or (), out)
    if not isinstance(found, stages.Opening):
        from latflow.cli.scanning import carry_out

        raise typer.Exit(carry_out(found, jobs, quiet))
    opened = stages.advanced(found, to_sample=True, quiet=quiet)
    conclude(opened, judged(opened), quiet)


@app.command()
@explained
def train(source: Source, override: Overrides = None, out: Out = None, quiet: Quiet = False) -> None:
    """Train the model to the end of its steps."""
    from latflow.cli import stages

    opened = stages.advanced(stages.opening(source, override or (), out), to_train=True, quiet=quiet)
    typer.echo(opened.path)


@app.command()
@explained
def sample(source: Source, override: Overrides = None, out: Out = None, quiet: Quiet = False) -> None:
    """Sample with the model and beside it; train first where that is not done."""
    from latflow.cli import stages

    opened = stages.advanced(stages.opening(source, override or (), out), to_sample=True, quiet=quiet)
    typer.echo(opened.path)


@app.command()
@explained
def validate(source: Existing) -> None:
    """Print the verdict so far: on the model's chain and weights, the one beside, and exact numbers."""
    from latflow.cli import stages
    from latflow.workflow import judged, keep

    opened = stages.open_run(source)
    validation = judged(opened)
    stages.show(opened, validation)
    try:
        keep(opened, validation)
    except OSError as error:
        typer.echo(f"latflow: the verdict is not kept in {opened.path}: {error}", err=True)
    exit_by(validation.verdict)


@app.command()
@explained
def report(source: Existing) -> None:
    """Write the report of what is sampled so far, and print its path."""
    from latflow.cli import stages
    from latflow.workflow import judged, keep

    opened = stages.open_run(source)
    validation = judged(opened)
    keep(opened, validation)
    typer.echo(stages.report(opened, validation))


@app.command()
@explained
def compare(sources: Sources) -> None:
    """Lay runs side by side: the settings that differ, their numbers with pulls, and what they have cost."""
    from latflow.cli import stages
    from latflow.cli.verdict import print_comparison
    from latflow.validation import compare

    try:
        print_comparison(compare([stages.open_run(source) for source in sources]))
    except ValueError as error:
        raise ConfigError(str(error)) from error


app.command()(explained(judge))


@app.command()
@explained
def theta(
    source: Existing,
    angles: Annotated[
        int, typer.Option("--angles", min=1, max=1000, help="How many θ, evenly spaced up to π.")
    ] = 8,
) -> None:
    """Reweight what is sampled to other vacuum angles θ, into theta.json and theta.md, and print the cost."""
    from latflow.cli import stages
    from latflow.cli.verdict import print_theta

    opened = stages.open_run(source)
    print_theta(*stages.at_angles(opened, angles))


app.command()(explained(export))


@app.command()
@explained
def presets() -> None:
    """List the configurations that come with latflow."""
    from latflow.config import description_of, preset_names

    names = preset_names()
    for name in names:
        typer.echo(f"{name:<{max(map(len, names))}}  {description_of(name)}")


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
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder; reproduced/NAME if none.", parser=user_path),
    ] = None,
    documents: Annotated[
        bool,
        typer.Option("--list", help="List the tables and figures of the papers, and what makes each again."),
    ] = False,
) -> None:
    """Do an experiment of a paper again, with its table and figure; go on where an earlier call stopped."""
    from latflow.cli.experiments import perform, print_documents, print_experiments

    if documents:
        if experiment is not None:
            raise ConfigError(f"expected an experiment or --list, got {experiment} and --list")
        print_documents()
    elif experiment is None:
        print_experiments()
    else:
        perform(experiment, quick, seed, out)


app.command()(explained(index))
app.command()(explained(plan))
app.command()(explained(profile))
