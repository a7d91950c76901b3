"""Every formula of the documentation is drawn, as the build draws it."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import markdown
import pytest
from mkdocs.exceptions import PluginError

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EXTENSIONS = ["attr_list", "md_in_html", "pymdownx.arithmatex", "pymdownx.superfences", "tables", "toc"]
"""Those of mkdocs.yml that decide what is a formula, and those that MkDocs adds."""


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("documentation_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(hooks, text: str, name: str = "page.md") -> str:
    options = {"pymdownx.arithmatex": {"generic": True}}
    page = markdown.markdown(text, extensions=EXTENSIONS, extension_configs=options)
    return hooks.on_page_content(page, page=SimpleNamespace(file=SimpleNamespace(src_uri=name)))


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(DOCS)) for path in PAGES])
def test_no_formula_is_left_as_it_was_typed(hooks, path):
    page = drawn(hooks, path.read_text(encoding="utf-8"))
    for formula in re.findall(r"<math.*?</math>", page, re.DOTALL):
        assert "\\" not in "".join(ElementTree.fromstring(formula).itertext())
    words = re.sub(r"<(math|code|pre)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert "$" not in words
    assert not re.search(r"\\[a-zA-Z(\[]", words)


def test_formulas_are_found(hooks):
    page = drawn(hooks, (DOCS / "theory.md").read_text(encoding="utf-8"))
    assert page.count('<div class="formula"') > 30
    assert page.count("<math") > 100


def test_a_formula_that_is_not_understood_is_told(hooks):
    with pytest.raises(PluginError, match=r"page\.md: the formula '.*nothing.*'"):
        drawn(hooks, r"With $\nothing x$ in it.")


@pytest.mark.parametrize(
    ("latex", "letters"),
    [("P'", ["P", "′"]), ("I_n'", ["I", "′", "n"]), ("J''", ["J", "″"]), ("J'^2", ["J", "′", "2"])],
)
def test_primes_stand_beside_their_letter(hooks, latex, letters):
    (formula,) = re.findall(r"<math.*?</math>", drawn(hooks, f"Here ${latex}$ stands."))
    tree = ElementTree.fromstring(formula)
    assert [part.text for part in tree.iter() if part.text] == letters
    scripts = [part[-1] for part in tree.iter() if part.tag in {"msup", "msubsup"}]
    assert not any({*"′″"} & {*"".join(script.itertext())} for script in scripts)


def test_punctuation_stays_with_its_formula(hooks):
    assert re.search(
        r'<span style="white-space: nowrap"><math>.*</math>,</span> and', drawn(hooks, "With $x^2$, and")
    )
    assert "<span" not in drawn(hooks, "With $x^2$ and")
