"""The documents that define what must work: their tables and figures, what makes them, what is done."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

State = Literal["done", "smaller", "open", "drawing"]

STATES: dict[State, str] = {
    "done": "made again",
    "smaller": "made again on smaller lattices, shorter, or with larger errors",
    "open": "not made yet",
    "drawing": "a picture of an idea",
}
"""In words."""


class Part(NamedTuple):
    """A table or a figure.

    Attributes:
        name: as the document calls it.
        what: it shows.
        state: whether it was made again.
        command: that makes it; "" where there is none.
    """

    name: str
    what: str
    state: State
    command: str = ""


class Document(NamedTuple):
    """A document, and its tables and figures."""

    name: str
    parts: tuple[Part, ...]


def documents() -> tuple[Document, ...]:
    """All of them, as `documents.toml` has them.

    Raises:
        ValueError: for a state that is none, and for one with a command that has none, or none with one.
    """
    table = tomllib.loads((Path(__file__).parent / "documents.toml").read_text(encoding="utf-8"))
    found = tuple(
        Document(one["name"], tuple(Part(**part) for part in one["part"])) for one in table["document"]
    )
    for part in (part for one in found for part in one.parts):
        if part.state not in get_args(State):
            raise ValueError(f"{part.name}: expected a state out of {', '.join(STATES)}, got {part.state!r}")
        if bool(part.command) != (part.state in ("done", "smaller")):
            raise ValueError(f"{part.name}: expected a command where it is made, got {part.command!r}")
    return found


def lines() -> Iterator[str]:
    """The list for a terminal."""
    for one in documents():
        yield one.name
        for part in one.parts:
            yield f"  {part.name}: {part.what}"
            yield f"    {STATES[part.state]}" + (f": {part.command}" if part.command else "")


def page() -> str:
    """The list for a page, a table for each document."""
    made = []
    for one in documents():
        rows = [["", "what", "command", ""], ["---"] * 4]
        for part in one.parts:
            command = f"`{part.command}`" if part.command else ""
            rows.append([part.name, part.what, command, STATES[part.state]])
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        made.append(f"{one.name}:\n\n{table}")
    return "\n\n".join(made)
