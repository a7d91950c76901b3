"""Pages that cannot fall behind: what code, benchmarks and results say is written when they are built.

Formulas become MathML, which browsers draw without scripts.
"""

import html
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from math_core import LatexError, LatexToMathML
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page
from settings import with_settings
from tasks import with_tasks

from latflow_papers.documents import page
from latflow_papers.results import filled

MARKER = "<!-- commands -->"
DOCUMENTS = "<!-- documents -->"
BENCHMARK = re.compile(r"<!-- benchmark (\w+)(?: (\w+))? -->")
"""The first table of a section of benchmarks/RESULTS.md, or its rows that begin with a word."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put what is asked for in place of markers, and results where {{ … }} asks for them."""
    written = _with_benchmarks(with_settings(with_tasks(_with_commands(markdown))))
    written = written.replace(DOCUMENTS, page())
    return filled(written, Path(__file__).parent / "experiments")


_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\(?:\(|\[)(.*?)\\(?:\)|\])</\1>([.,;:)]*)', re.DOTALL)
"""What the extension arithmatex makes of $…$ and $$…$$, and the punctuation that follows."""

_PARAGRAPH = re.compile(r"<p>.*?</p>", re.DOTALL)
_DOLLARS = re.compile(r"\$([^$]+)\$")
"""A formula in the paragraphs of a notebook, which arithmatex does not see."""

_LATEX = LatexToMathML(fancy_error=False)


def on_page_content(text: str, page: Page, **_: object) -> str:
    """Formulas in LaTeX as MathML, displayed ones in a box that scrolls by itself.

    Raises:
        PluginError: for a formula that is not understood, with the page and the formula.
    """

    def formula(found: re.Match[str]) -> str:
        latex, displayed = html.unescape(found[2]).strip(), found[1] == "div"
        try:
            drawn = _beside_primes(_LATEX.convert_with_local_state(latex, displaystyle=displayed))
        except LatexError as error:
            raise PluginError(f"{page.file.src_uri}: the formula {latex!r}: {error}") from error
        if displayed:
            return f'<div class="formula" tabindex="0">{drawn}</div>{found[3]}'
        # no line begins with a comma
        return f'<span style="white-space: nowrap">{drawn}{found[3]}</span>' if found[3] else drawn

    if page.file.src_uri.endswith(".ipynb"):
        marked = r'<span class="arithmatex">\\(\1\\)</span>'
        text = _PARAGRAPH.sub(lambda found: _DOLLARS.sub(marked, found[0]), text)
    return _FORMULA.sub(formula, text)


def _beside_primes(mathml: str) -> str:
    """Primes beside their letters: as superscripts browsers draw them tiny and far too high."""
    root = ElementTree.fromstring(mathml.replace("&ApplyFunction;", "\N{FUNCTION APPLICATION}"))
    for letter in [*root.iter("msup"), *root.iter("msubsup")]:
        script = letter[-1]
        prime = script[0] if script.tag == "mrow" else script
        if prime.tag != "mo" or prime.text not in {"′", "″", "‴"}:
            continue
        if prime is script:
            letter.remove(script)
            letter.tag = {"msup": "mrow", "msubsup": "msub"}[letter.tag]
        else:
            script.remove(prime)
        base = ElementTree.Element("mrow")
        base.extend([letter[0], prime])
        letter[0] = base
    return ElementTree.tostring(root, encoding="unicode")


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
