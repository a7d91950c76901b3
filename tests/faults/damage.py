"""Every file of the folder of a run, damaged in every way: told, or without effect on any number."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults.folders import Found, differences, files_in, read
from faults.kills import started
from small_runs import outcome

Harm = Callable[[bytes, bytes, random.Random], bytes]


def _flipped(contents: bytes, _: bytes, generator: random.Random) -> bytes:
    changed = bytearray(contents)
    changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


HARM: dict[str, Harm] = {
    "truncated": lambda contents, _, generator: contents[: generator.randrange(len(contents))],
    "emptied": lambda *_: b"",
    "one bit flipped": _flipped,
    "of another run": lambda _, other, __: other,
}


@dataclass
class Harmed:
    """What became of damage: by its kind how often it was told, and how often it had no effect."""

    told: Counter[str] = field(default_factory=Counter)
    harmless: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def seen(path: Path) -> Found:
    """All numbers of a run, and what a page over many runs would say of it."""
    from latflow.report.overview import overview

    found, page = Found(numbers=outcome(path)), overview(path)
    if page.state in ("outdated", "damaged"):
        found.told.append(page.why)
    found.results = {"values": page.values, "diagnostics": page.diagnostics, "state": page.state}
    return found


def damage(every: int, seed: int, place: Path) -> Harmed:
    """Damage each file of a run in each way, or each so many of them.

    Args:
        every: of the pairs of file and way; 1 for all.
        seed: of all that is random.
        place: an empty folder.
    """
    place.mkdir(parents=True)
    path, other = place / "run", place / "other"
    for folder, seeds in ((path, ()), (other, ("-o", "seed=2"))):
        (child,) = started("flow", folder, place / "log", more=seeds)
        if child.wait(300) not in (0, 1, 3):
            raise RuntimeError(f"a run to be damaged ended with {child.code}: {child.said}")
    known, found, generator = read(path, seen, place), Harmed(), random.Random(seed)
    cases = [(file, way) for file in sorted(files_in(path)) for way in HARM]
    for file, way in generator.sample(cases, len(cases) // every):
        copy = Path(shutil.copytree(path, place / "copy"))
        contents = (copy / file).read_bytes()
        if contents:
            replacement = (other / file).read_bytes() if (other / file).exists() else b""
            (copy / file).write_bytes(HARM[way](contents, replacement, generator))
            _judge(found, f"{file} {way}", way, read(copy, seen, place), known)
        shutil.rmtree(copy)
    return found


def _judge(found: Harmed, what: str, way: str, now: Found, known: Found) -> None:
    if now.error.startswith(("no error of latflow", "the reader ended")):
        found.failures.append(f"{what}: {now.error}")
    elif now.error or now.told:
        found.told[way] += 1
    elif wrong := differences(now.numbers, known.numbers):
        found.failures.append(f"{what}: {wrong} differ, and nothing is told")
    elif repr(now.results) != repr(known.results):
        found.failures.append(f"{what}: the verdict differs, and nothing is told")
    else:
        found.harmless[way] += 1
