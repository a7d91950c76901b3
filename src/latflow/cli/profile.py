"""The command `profile`: where a training step spends its time and its memory."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latflow.cli.arguments import Overrides, Source, user_path
from latflow.errors import ConfigError

if TYPE_CHECKING:
    from latflow.config import RunConfig
    from latflow.training.profiling import StepProfile

_SILENT = {"KINETO_LOG_LEVEL": "6", "TORCH_CPP_LOG_LEVEL": "ERROR"}
"""The profiler of PyTorch would talk to the terminal. It reads these as it is imported."""

_SHARED = ("reinforce", "reparametrization", "path_gradient")
"""What is measured beside the estimator of the configuration, where it works."""


def profile(
    source: Source,
    override: Overrides = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Measure this estimator alone; may be repeated."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="full, bfloat16 or float16 networks; may be repeated."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Draws in one piece; training.sub_batch or batch if none."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Of which medians are taken.")] = 5,
    top: Annotated[int, typer.Option(min=0, help="How many types of nodes are listed.")] = 10,
    to: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all of it to a file.", parser=user_path),
    ] = None,
) -> None:
    """Measure a training step: its loss and backward pass, the nodes of its graph, the memory it holds."""
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)
    from latflow.cli import stages
    from latflow.storage import write_text

    config = stages.opening(source, override or (), None).config
    if config.model is None:
        raise ConfigError("expected a [model] whose training step is measured, got none")
    size = batch or config.training.sub_batch or config.training.batch
    found = _measured(config, size, estimator, precision or [config.training.precision], repeats)
    where = f"batch {size}, {config.compute.torch_device()}"
    _print_steps(found, f"{config.name}: {where}")
    if top:
        _print_nodes(found, top)
    if to is not None:
        rows = [{"estimator": name, "precision": how, **asdict(one)} for (name, how), one in found.items()]
        for row, one in zip(rows, found.values(), strict=True):
            row["nodes"] = [node._asdict() for node in one.nodes]
        contents = {"name": config.name, "batch": size, "device": str(config.compute.torch_device())}
        write_text(to, json.dumps(contents | {"steps": rows}, indent=1) + "\n")


def _measured(
    config: "RunConfig", size: int, wished: list[str] | None, precisions: list[str], repeats: int
) -> "dict[tuple[str, str], StepProfile]":
    """The profiles by estimator and precision."""
    import torch

    from latflow.config.checking import built_action, built_model
    from latflow.densities.flows.recomputed import recomputed
    from latflow.estimators import estimator_of
    from latflow.seeds import generator_for
    from latflow.training.profiling import profile_step

    action, training = built_action(config.action), config.training
    assert config.model is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(config.compute.threads or threads)
    try:
        model = built_model(config.model, action, generator=generator_for(config.seed, "initialisation"))
        model = model.to(device=config.compute.torch_device(), dtype=config.compute.torch_dtype)
        measured = recomputed(model) if training.recompute else model
        found: dict[tuple[str, str], StepProfile] = {}
        for name in wished or dict.fromkeys([training.estimator, *_SHARED]):
            options = training.estimator_options if name == training.estimator else {}
            for precision in precisions:
                try:
                    made = estimator_of(name, options)
                    generator = generator_for(config.seed, "profile", config.compute.torch_device())
                    one = profile_step(measured, action, made, size, generator, precision, repeats)
                except ValueError as error:
                    if wished or name == training.estimator:
                        raise ConfigError(f"{name}: {error}") from error
                    continue  # of those that were not asked for: the model or the theory has no such gradient
                found[name, precision] = one
        return found
    finally:
        torch.set_num_threads(threads)


def _print_steps(found: "dict[tuple[str, str], StepProfile]", title: str) -> None:
    first = next(iter(found.values()))
    head = ["estimator", "networks", "loss, s", "backward, s", "together", "nodes", "tensors", "held, MB"]
    rows: list[list[Any]] = []
    for (name, precision), one in found.items():
        whole = (one.loss + one.backward) / (first.loss + first.backward)
        numbers = [f"{one.loss:.4f}", f"{one.backward:.4f}", f"× {whole:.2f}"]
        nodes = sum(node.count for node in one.nodes)
        memory = [str(nodes), str(one.tensors), f"{one.held / 1e6:.1f}", f"{one.peak / 1e6:.1f}"]
        rows.append([name, precision, *numbers, *memory])
    _print([*head, "peak, MB"], rows, title)


def _print_nodes(found: "dict[tuple[str, str], StepProfile]", top: int) -> None:
    for (name, precision), one in found.items():
        whole = sum(node.seconds for node in one.nodes) or 1.0
        rows = [
            [node.name, str(node.count), f"{1e3 * node.seconds:.2f}", f"{100 * node.seconds / whole:.1f}%"]
            for node in one.nodes[:top]
        ]
        _print(["node", "number", "ms", "of the backward pass"], rows, f"{name}, {precision}")


def _print(head: list[str], rows: list[list[str]], title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from latflow.cli.console import results_console

    table = Table(title=Text(title), box=SIMPLE_HEAD)
    for column, words in enumerate(head):
        left = all(not row[column][:1].isdigit() and row[column][:1] != "×" for row in rows)
        table.add_column(words, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    results_console().print(table)
