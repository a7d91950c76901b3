"""Doctests of docstrings as code on the pages of the reference, wherever in a docstring they stand."""

import re
from typing import Any

import griffe

_BLOCK = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts fences around them, without which Markdown takes >>> for quotations."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with every object that griffe has read."""
        if obj.docstring is not None:
            obj.docstring.value = _BLOCK.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
