"""`python -m faults`: kill and damage, and say what was found; see `make faults`."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from faults.children import STAGES, load
from faults.damage import HARM, damage
from faults.kills import WAYS, Tally, kill_runs

PARTS = ("kills", "damage")


def main() -> None:
    """Do what was asked for; the status is 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all if none is named")
    parser.add_argument("--count", type=int, default=200, help="kills, a quarter of them on two processes")
    parser.add_argument("--every", type=int, default=1, help="damage every so many of all cases")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    parser.add_argument("--keep", metavar="DIR", help="where runs are made; those that fail stay there")
    asked = parser.parse_args()
    load()
    failures: list[str] = []
    since = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(asked.keep or folder)
        if not asked.parts or "kills" in asked.parts:
            several = asked.count // 4
            first = (asked.count - several + 1) // 2
            counts = {"flow": first, "curriculum": asked.count - several - first, "pair": several}
            tally = kill_runs(counts, asked.seed, place / "kills", say)
            print(table(tally))
            failures += tally.failures
        if not asked.parts or "damage" in asked.parts:
            harmed = damage(asked.every, asked.seed, place / "damage")
            for way in HARM:
                print(f"{way}: told {harmed.told[way]} times, without effect {harmed.harmless[way]} times")
            failures += harmed.failures
    for number, failure in enumerate(failures, 1):
        print(f"FAILED {number}: {failure}")
    print(f"{len(failures)} failures in {time.monotonic() - since:.0f} s")
    sys.exit(1 if failures else 0)


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def table(tally: Tally) -> str:
    """The kills by stage and signal."""
    rows = [["", *WAYS, "all"]]
    places = [*STAGES, "cold process"]
    for kinds, name in ((("flow", "curriculum"), "one process"), (("pair",), "two processes")):
        for place in places:
            counts = [
                sum(n for key, n in tally.kills.items() if key[0] in kinds and key[1:] == (place, way))
                for way in WAYS
            ]
            if sum(counts):
                rows.append([f"{name}, {place}", *map(str, counts), str(sum(counts))])
    by_way = [sum(n for key, n in tally.kills.items() if key[2] == way) for way in WAYS]
    rows.append(["all", *map(str, by_way), str(tally.total)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, f"{tally.total} kills in {tally.runs.total()} runs that ended"])


if __name__ == "__main__":
    main()
