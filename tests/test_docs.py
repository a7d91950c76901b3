"""Pages that show how to do something are what they say: each is run from top to bottom in an empty folder.

Files that a page shows are written there, commands are run with fewer steps, Python examples are doctests.
"""

import doctest
import re
import shlex
from pathlib import Path

import pytest
from tasks import TASKS, counted, table
from typer.testing import CliRunner

from latflow import cli
from latflow.cli import stages
from latflow.config import load_config
from latflow.config.reading import presets, read_toml

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted({*DOCS.glob("howto-*.md"), *DOCS.glob("own*.md")})
ELSEWHERE = {"howto-export", "howto-judge", "howto-plan"}
"""Pages whose commands have a file of tests each; of these the examples alone are run here."""
BLOCK = re.compile(
    r"(<!-- not run[^\n]*\n\n)?(?:^```(\w+)\n(.*?)^```|^ {4}(latflow [^\n]*(?:\n {4}[^\n]*)*))",
    re.MULTILINE | re.DOTALL,
)
"""In a fence or indented, with a comment before it that says why it is not run."""
FILE = re.compile(r"# (\S+\.(?:py|toml))\n")
AT_MOST = {
    "training.steps": 20,
    "training.batch": 32,
    "sampling.steps": 60,
    "sampling.chains": 16,
    "beside.steps": 60,
    "beside.chains": 16,
    "beside.thermalisation": 100,
    "compute.threads": 1,
}
"""What a command is shortened to; nothing is made longer."""
VERDICTS = (0, 3)
"""With so few steps a verdict may be inconclusive, never failed."""


@pytest.fixture
def quick(monkeypatch):
    """Runs without figures, which take most of the time of a short one and have tests of their own."""
    monkeypatch.setattr(stages, "report", lambda run, _: run.path)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block that is run, in order; commands without a fence are "sh"."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(language or "sh", text or commands) for skip, language, text, commands in found if not skip]


def write_files(page: Path, folder: Path) -> None:
    """The files of a page: blocks whose first line names one; those of one name follow each other."""
    for _, text in blocks(page):
        if named := FILE.match(text):
            with (folder / named[1]).open("a", encoding="utf-8") as file:
                file.write(text[named.end() :])


def shortened(words: list[str]) -> list[str]:
    """A command with fewer steps, where it computes."""
    if words[0] not in ("run", "train", "sample"):
        return words
    source, given = words[1], dict(word.split("=", 1) for word in words[2:] if "=" in word)
    limits = AT_MOST
    if Path(source).is_dir():  # which goes on with settings of its own
        limits = {key: most for key, most in limits.items() if key in given}
    elif given.get("model") == "null" or not has_model(source):
        limits = {key: most for key, most in limits.items() if key.startswith(("beside", "compute"))}
    least = {key: min(most, int(given.get(key, most))) for key, most in limits.items()}
    return [*words, *(part for key, most in least.items() for part in ("-o", f"{key}={most}"))]


def has_model(source: str) -> bool:
    """Whether a preset or a file, which may be that of a scan, has one."""
    return "model" in read_toml(presets().get(source, Path(source)))


def run_command(line: str) -> None:
    """A line of a shell, if it is a command of latflow that is waited for."""
    words = shlex.split(line, comments=True)
    if words[:1] != ["latflow"] or words[-1] == "&":
        return
    result = CliRunner().invoke(cli.app, shortened(words[1:]))
    assert result.exit_code in VERDICTS, f"{line}\n{result.output}"


def run_examples(text: str, names: dict, page: Path) -> None:
    """Doctests with the names that those before have left."""
    test = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), 0)
    told: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(optionflags=flags).run(test, out=told.append, clear_globs=False)
    names |= test.globs
    assert not told, "\n".join(told)


LONG = ("howto-hmc", "howto-plan", "howto-transfer", "own")
"""Pages whose commands are those that other tests run, too."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page.stem in LONG else page for page in PAGES],
    ids=[page.stem for page in PAGES],
)
def test_the_page_runs(page, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    names: dict = {"__name__": "__main__"}
    for language, text in blocks(page):
        if ">>>" in text:
            run_examples(text, names, page)
        elif language == "sh" and page.stem not in ELSEWHERE:
            for line in text.replace("\\\n", " ").splitlines():
                run_command(line)


def test_a_wrong_layer_of_the_page_is_told(tmp_path, monkeypatch, quick):
    """With the sign of its log-determinant turned, the layer is not sampled with in silence."""
    monkeypatch.chdir(tmp_path)
    write_files(DOCS / "own-layer.md", tmp_path)
    text = Path("layers.py").read_text(encoding="utf-8")
    wrong = text.replace("return y, torch.log(torch.cosh", "return y, -torch.log(torch.cosh")
    assert wrong != text
    Path("layers.py").write_text(wrong, encoding="utf-8")
    result = CliRunner().invoke(cli.app, shortened(["run", "layers.toml"]))
    assert result.exit_code == 1, result.output
    assert "FAILED  log-determinant is the Jacobian's" in result.stdout


def test_what_the_page_says_is_refused(tmp_path):
    write_files(DOCS / "own.md", tmp_path)
    with pytest.raises(Exception, match=r"action\.lam: expected greater than 0, got -1"):
        load_config(tmp_path / "own.toml", ["action.lam=-1"])


def test_lines_of_tasks_are_counted_in_the_pages():
    """Empty lines, comments and what is printed do not count; what a page does not show is told."""
    page = """
```python
# one.py
import math  # of one line

def f(x):
    return x
```

    latflow run one.toml --out \\
      runs/one

```python
>>> for i in range(2):
...     print(i)
0
1
```
"""
    assert counted(page, "# one.py") == ("python", 3)
    assert counted(page, "latflow run one") == ("sh", 2)
    assert counted(page, ">>> for") == ("python", 2)
    with pytest.raises(ValueError, match=r"begins with 'latflow judge', found none"):
        counted(page, "latflow judge")
    rows = table().splitlines()[2:]
    assert len(rows) == len(TASKS)
    assert all(re.search(r"\| [1-9]", row) for row in rows)
