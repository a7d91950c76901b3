"""The command `plan`: which method gives a wished error at the least cost, and its run."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latflow.cli.arguments import Out, Overrides, Source, user_path
from latflow.errors import ConfigError

if TYPE_CHECKING:
    from latflow.cli.stages import Opening
    from latflow.planning import Plan, Prediction, Row
    from latflow.runs import Run


_METHOD, _WIDTH = 40, 150
"""Columns of a terminal: for what a method is called, and in all where there is no terminal."""
_HEADINGS = ("τ", "ms a step", "accepted", "ESS", "steps", "cost, s", "with training", "paid from", "MiB", "")
_OF_MODELS = ("ESS", "with training", "paid from")


def _wished(text: str) -> float:
    """A number, or a percentage."""
    try:
        error = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        error = math.nan
    if not 0 < error < math.inf:
        raise typer.BadParameter(f"expected a positive error, such as 0.01 or 1%, got {text!r}")
    return error


def plan(
    source: Source,
    override: Overrides = None,
    observable: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whose error is wished; the first that the theory calls slow if none."
        ),
    ] = None,
    error: Annotated[
        float,
        typer.Option(metavar="ERROR", help="The wished error, 0.01 or 1% of the average.", parser=_wished),
    ] = "1%",  # pyright: ignore[reportArgumentType]
    absolute: Annotated[
        bool, typer.Option("--absolute", help="The error itself, not a share: where the average is zero.")
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="RUN", help="A run whose trained model is tried; may be repeated."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="SAMPLER", help="Try this sampler alone; may be repeated."),
    ] = None,
    budget: Annotated[
        float, typer.Option(metavar="MINUTES", min=0.05, help="What the pilots may take together.")
    ] = 5.0,
    to: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all of it to a file.", parser=user_path),
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Run the best method until the error is reached.")
    ] = False,
    out: Out = None,
) -> None:
    """Find by short pilots which method gives an error bar at the least cost; run it if so wished."""
    from latflow.cli import stages
    from latflow.planning import Prediction, asked, begin, begun, trained
    from latflow.planning import plan as planned
    from latflow.runs.provenance import plain
    from latflow.storage import write_text

    opened = stages.opening(source, override or (), None)
    question = asked(opened.config, observable, error, relative=not absolute)
    folder = out or Path("runs") / f"{opened.config.name}-plan"
    if run and (earlier := begun(folder, opened.config, question)) is not None:
        _finish(*earlier, question.observable.name)
        return
    sources = dict.fromkeys([*_own_models(source, opened), *(model or ())])
    models = [trained(one, opened.config) for one in sources]
    try:
        found = planned(
            opened.config,
            question,
            models,
            minutes=budget,
            say=lambda line: typer.echo(line, err=True),
            only=only or (),
        )
    except KeyboardInterrupt:
        typer.echo("latflow: stopped; pilots are not kept", err=True)
        raise typer.Exit(130) from None
    _print(found)
    if to is not None:
        write_text(to, json.dumps(plain(found.as_dict()), indent=1, ensure_ascii=False) + "\n")
    if not run:
        return
    if found.best is None:
        raise ConfigError("no pilot can be trusted, so that nothing is run: a longer --budget may tell more")
    new = begin(folder, opened.config, found, found.best)
    _finish(new, Prediction.of(question, found.best), question.observable.name)


def _own_models(source: str, opened: "Opening") -> list[str]:
    """The run with the trained model of a target: itself, or one whose weights it takes as they are."""
    if Path(source) == opened.path and (opened.path / "checkpoints" / "best.safetensors").exists():
        return [source]
    training = opened.config.training
    start = None if training is None or training.steps else training.init_from
    return [start] if start is not None and Path(start).is_dir() else []


def _finish(run: "Run", prediction: "Prediction", observable: str) -> None:
    """Sample to the end, and tell what was reached."""
    from latflow.cli import stages
    from latflow.cli.conclude import conclude
    from latflow.workflow import judged

    stages.train(run)
    stages.sample(run)
    validation = judged(run)
    reached, wished = prediction.reached(validation, observable), prediction.error
    share = ("%", 100) if prediction.relative else ("", 1)
    chain = "model" if run.config.sampling is not None else "beside"
    info = run.sampling_info(chain)
    typer.echo(
        f"{observable} by {prediction.title}: error {reached * share[1]:.3g}{share[0]}, predicted "
        f"{wished * share[1]:.3g}{share[0]}; {info['steps']} steps in {info['seconds']:.4g} s by the clock, "
        f"predicted {prediction.seconds}"
    )
    if reached > 1.1 * wished:
        section = "sampling" if chain == "model" else "beside"
        more = math.ceil(info["steps"] * (reached / wished) ** 2)
        typer.echo(f"to reach it: latflow run {run.path} -o {section}.steps={more}")
    conclude(run, validation)


def _print(found: "Plan") -> None:
    """The table on stdout, and what it means below it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from latflow.cli.console import results_console
    from latflow.planning import in_words

    question = found.question
    wished = f"{100 * question.error:g}%" if question.relative else f"{question.error:g}"
    words = question.action.words
    sides = "×".join(map(str, question.action.lattice))
    title = f"{question.observable.label} of {words.name} on {sides}, {words.parameters}, to {wished}"
    table = Table(title=Text(title), box=SIMPLE_HEAD)
    models = {row.model: row.training for row in found.rows if row.model is not None}
    table.add_column(Text("method"), min_width=_METHOD)
    for heading in _HEADINGS:
        if models or heading not in _OF_MODELS:
            table.add_column(Text(heading), no_wrap=True)
    notes = list(dict.fromkeys(doubt for row in found.rows for doubt in row.doubts))
    for row in found.rows:
        table.add_row(*map(Text, _cells(row, bool(models), notes)), style=None if row.sound else "yellow")
    out = results_console(_WIDTH)
    out.print(table)
    for number, note in enumerate(notes, start=1):
        out.print(f"[{number}] {note}", style="yellow", markup=False)
    if any(row.lower for row in found.rows):
        out.print("> the pilot is too short to know τ: it costs this, or more", markup=False)
    for model, training in models.items():
        out.print(f"{model}: trained in {in_words(training)}", markup=False)
    for method, reason in found.untried.items():
        out.print(f"not tried: {method}: {reason}", markup=False)
    for note in (found.busy(), found.of_untrained(), *found.disagreements()):
        if note:
            out.print(note, markup=False)
    out.print(found.recommendation(), style="bold", markup=False)


def _cells(row: "Row", models: bool, notes: list[str]) -> list[str]:
    from latflow.planning import rounded

    least = "> " if row.lower else ""
    known = math.isfinite(row.cost.value)
    paid = (
        "" if row.break_even is None else "never" if math.isinf(row.break_even) else rounded(row.break_even)
    )
    of_model = [str(row.with_training) if known else "", paid] if row.training else ["", ""]
    return [
        row.title,
        "" if row.tau is None else f"{least}{row.tau}",
        f"{1000 * row.step.value * row.chains:.3g}",
        "" if row.acceptance is None else f"{row.acceptance:.3f}",
        *([("" if row.ess is None else f"{row.ess:.3f}")] if models else []),
        str(row.steps) if known else "",
        f"{least}{row.cost}" if known else "not known",
        *(of_model if models else []),
        "" if row.memory is None else f"{row.memory:.0f}",
        "".join(f"[{notes.index(doubt) + 1}]" for doubt in row.doubts),
    ]
