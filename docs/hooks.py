"""Pages that cannot fall behind: the command line writes that of commands, results those of experiments."""

import subprocess
import sys
from pathlib import Path

from latflow_papers.results import filled

MARKER = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put what Typer says of all commands in place of the marker, and results where {{ … }} asks for them."""
    return filled(_with_commands(markdown), Path(__file__).parent / "experiments")


def _with_commands(markdown: str) -> str:
    if MARKER not in markdown:
        return markdown
    typer = [sys.executable, "-m", "typer", "latflow.cli", "utils", "docs", "--name", "latflow"]
    commands = subprocess.run(typer, check=True, capture_output=True, text=True).stdout
    return markdown.replace(MARKER, commands.partition("\n")[2])
