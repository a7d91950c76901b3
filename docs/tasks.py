"""The table of tasks on the home page: the lines that one types for each, counted in the pages."""

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
MARKER = "<!-- tasks -->"


class Task(NamedTuple):
    """Something to do, and what a page shows of it.

    Attributes:
        title: what is done.
        page: where it is shown.
        parts: the beginnings of what it takes: of commands, or of blocks of code.
    """

    title: str
    page: str
    parts: tuple[str, ...]


TASKS = (
    Task("A flow, trained, sampled and judged", "quickstart", ("latflow run phi4-quick\n",)),
    Task("HMC alone", "howto-hmc", ("latflow run phi4-16x16 -o model=null",)),
    Task(
        "A scan, with crossings and a finite-size fit",
        "howto-scan",
        ("# ising-binder.toml", "latflow run ising-binder.toml"),
    ),
    Task("The cheapest method for an error bar", "howto-plan", ("latflow plan phi4-critical-16",)),
    Task(
        "Weights of 8×8 on 16×16, untrained there",
        "howto-transfer",
        ("latflow run phi4-8x8 --out", "latflow run phi4-8x8 -o 'action.lattice"),
    ),
    Task("Your own configurations, judged", "howto-judge", ("latflow judge published.npy",)),
    Task("Your own theory", "own", ("# own.py", "# own.toml", "latflow run own.toml\n")),
    Task(
        "Your own network and layer", "own-layer", ("# layers.py", "# layers.toml", "latflow run layers.toml")
    ),
    Task("Your own density and sampler", "own-layer", ("# mine.py", "# mine.toml", "latflow run mine.toml")),
    Task(
        "Three estimators, compared",
        "howto-estimator",
        (
            "latflow train phi4-quick -o training.estimator=path_gradient",
            "latflow train phi4-quick -o training.estimator=reparametrization",
            "latflow train phi4-quick -o training.estimator=reinforce ",
            ">>> import latflow as lf",
        ),
    ),
    Task("A report, written anew", "howto-report", ("latflow report",)),
    Task("The error of weighted draws of your own", "howto-errors", (">>> import numpy as np",)),
    Task(
        "A result in pyerrors",
        "howto-export",
        ("latflow run phi4-quick", "latflow export runs/quick chains.json.gz", "import pyerrors as pe"),
    ),
    Task("Four GPUs", "howto-cluster", ("torchrun --nproc-per-node 4",)),
)


def with_tasks(markdown: str) -> str:
    """A page with the table where its marker asks for it."""
    return markdown.replace(MARKER, table()) if MARKER in markdown else markdown


def table() -> str:
    """A row for each task: lines of commands, of configuration and of Python."""
    rows = ["| task | commands | configuration | Python |", "| --- | --- | --- | --- |"]
    for task in TASKS:
        text = (DOCS / f"{task.page}.md").read_text(encoding="utf-8")
        count = {"sh": 0, "toml": 0, "python": 0}
        for part in task.parts:
            language, lines = counted(text, part)
            count[language] += lines
        cells = " | ".join(str(lines) if lines else "–" for lines in count.values())
        rows.append(f"| [{task.title}]({task.page}.md) | {cells} |")
    return "\n".join(rows)


def counted(text: str, part: str) -> tuple[str, int]:
    """The language of the first block that begins so, or of a command, and its lines.

    Empty lines and comments do not count, nor does what an example prints.

    Raises:
        ValueError: when the page does not show it.
    """
    if found := re.search(rf"^```(toml|python)\n({re.escape(part)}.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = found[2].splitlines()
        if part.startswith(">>>"):
            lines = [line[4:] for line in lines if line.startswith((">>> ", "... "))]
        return found[1], sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in lines)
    if found := re.search(rf"^(?: {{4}})?{re.escape(part)}(?:[^\n]*\\\n)*", text, re.MULTILINE):
        return "sh", 1 + found[0].count("\\\n")
    raise ValueError(f"expected a block or a command in the page that begins with {part!r}, found none")
