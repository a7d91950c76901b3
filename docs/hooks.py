"""The page of commands is written by the command line itself, so that it cannot fall behind."""

import subprocess
import sys

MARKER = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put what Typer says of every command in place of the marker."""
    if MARKER not in markdown:
        return markdown
    typer = [sys.executable, "-m", "typer", "latflow.cli", "utils", "docs", "--name", "latflow"]
    commands = subprocess.run(typer, check=True, capture_output=True, text=True).stdout
    return markdown.replace(MARKER, commands.partition("\n")[2])
