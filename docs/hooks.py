"""Pages that cannot fall behind: the command line writes that of commands, results those of experiments.

Formulas become MathML, which browsers draw without scripts.
"""

import html
import re
import subprocess
import sys
from pathlib import Path

from latex2mathml.converter import convert

from latflow_papers.results import filled

MARKER = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put what Typer says of all commands in place of the marker, and results where {{ … }} asks for them."""
    return filled(_with_commands(markdown), Path(__file__).parent / "experiments")


_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\(?:\(|\[)(.*?)\\(?:\)|\])</\1>', re.DOTALL)
"""What the extension arithmatex makes of $…$ and $$…$$."""


def on_page_content(text: str, **_: object) -> str:
    """Formulas in LaTeX as MathML."""
    return _FORMULA.sub(lambda found: _formula(found[2], "inline" if found[1] == "span" else "block"), text)


def _formula(latex: str, display: str) -> str:
    return convert(html.unescape(latex).strip(), display=display)


def _with_commands(markdown: str) -> str:
    if MARKER not in markdown:
        return markdown
    typer = [sys.executable, "-m", "typer", "latflow.cli", "utils", "docs", "--name", "latflow"]
    commands = subprocess.run(typer, check=True, capture_output=True, text=True).stdout
    return markdown.replace(MARKER, commands.partition("\n")[2])
