"""Pages that cannot fall behind: commands, settings, benchmarks and results are written when they are built.

Formulas become MathML, which browsers draw without scripts.
"""

import html
import re
import subprocess
import sys
from pathlib import Path

from latex2mathml.converter import convert
from settings import with_settings

from latflow_papers.results import filled

MARKER = "<!-- commands -->"
BENCHMARK = re.compile(r"<!-- benchmark (\w+)(?: (\w+))? -->")
"""The first table of a section of benchmarks/RESULTS.md, or its rows that begin with a word."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put commands, settings and benchmarks in place of markers, and results where {{ … }} asks for them."""
    written = _with_benchmarks(with_settings(_with_commands(markdown)))
    return filled(written, Path(__file__).parent / "experiments")


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


def _with_benchmarks(markdown: str) -> str:
    return BENCHMARK.sub(lambda found: _benchmark(found[1], found[2]), markdown)


def _benchmark(section: str, word: str | None) -> str:
    results = (Path(__file__).parents[1] / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    text = results.partition(f"\n## {section}\n")[2].partition("\n## ")[0].strip()
    found = re.search(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert found is not None, f"benchmarks/RESULTS.md has no table of {section}"
    head, rule, *rows = found[0].splitlines()
    rows = [row for row in rows if word is None or row.startswith(f"| {word} |")]
    return "\n".join([*text.splitlines()[:2], "", head, rule, *rows])
