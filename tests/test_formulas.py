"""Every formula of the documentation is drawn, as the build draws it."""

import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import hooks
import markdown
import pytest
from mkdocs.exceptions import PluginError

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EXTENSIONS = ["attr_list", "md_in_html", "pymdownx.arithmatex", "pymdownx.superfences", "tables", "toc"]
"""Those of mkdocs.yml that decide what is a formula, and those that MkDocs adds."""


def drawn(text: str, name: str = "page.md") -> str:
    options = {"pymdownx.arithmatex": {"generic": True}}
    page = markdown.markdown(text, extensions=EXTENSIONS, extension_configs=options)
    return hooks.on_page_content(page, page=SimpleNamespace(file=SimpleNamespace(src_uri=name)))


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(DOCS)) for path in PAGES])
def test_no_formula_is_left_as_it_was_typed(path):
    page = drawn(path.read_text(encoding="utf-8"))
    for formula in re.findall(r"<math.*?</math>", page, re.DOTALL):
        assert "\\" not in "".join(ElementTree.fromstring(formula).itertext())
    words = re.sub(r"<(math|code|pre)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert "$" not in words
    assert not re.search(r"\\[a-zA-Z(\[]", words)


def test_formulas_are_found():
    page = drawn((DOCS / "theory.md").read_text(encoding="utf-8"))
    assert page.count('<div class="formula"') > 30
    assert page.count("<math") > 100


def test_a_formula_that_is_not_understood_is_told():
    with pytest.raises(PluginError, match=r"page\.md: the formula '.*nothing.*'"):
        drawn(r"With $\nothing x$ in it.")


@pytest.mark.parametrize(
    ("latex", "letters"),
    [("P'", ["P", "′"]), ("I_n'", ["I", "′", "n"]), ("J''", ["J", "″"]), ("J'^2", ["J", "′", "2"])],
)
def test_primes_stand_beside_their_letter(latex, letters):
    (formula,) = re.findall(r"<math.*?</math>", drawn(f"Here ${latex}$ stands."))
    tree = ElementTree.fromstring(formula)
    assert [part.text for part in tree.iter() if part.text] == letters
    scripts = [part[-1] for part in tree.iter() if part.tag in {"msup", "msubsup"}]
    assert not any({*"′″"} & {*"".join(script.itertext())} for script in scripts)


def test_punctuation_stays_with_its_formula():
    assert re.search(
        r'<span style="white-space: nowrap"><math>.*</math>,</span> and', drawn("With $x^2$, and")
    )
    assert "<span" not in drawn("With $x^2$ and")
