"""Whether the tests catch faults, put into a copy of the code one at a time: what `make mutants` runs."""

import argparse
import fnmatch
import multiprocessing
import os
import queue
import shlex
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
LIST = HERE / "mutants"
"""One file for each area of the library."""
LEAST = 0.95
"""Of the faults that can be caught, the share that must be."""

_NEEDED = ("src", "tests", "docs", "benchmarks", "examples")
_HOW = (
    *("-x", "-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow"),
    "-Wignore::pytest.PytestAssertRewriteWarning",  # of what is loaded before
)


class FaultError(Exception):
    """The list does not fit the code, or the tests that it names."""


@dataclass(frozen=True)
class Fault:
    """What a careless edit could make of one place in the code.

    Attributes:
        area: of the library: the name of the file that lists it.
        name: what goes wrong, in words.
        file: that holds it, below src/latflow.
        was: the text that is replaced, which stands there once.
        now: what stands there instead.
        tests: arguments of pytest, for those that must catch it.
        equivalent: why no test can catch it; empty where one can.
    """

    area: str
    name: str
    file: str
    was: str
    now: str
    tests: str = ""
    equivalent: str = ""

    def __str__(self) -> str:
        return f"{self.area}: {self.name}"

    def path(self, root: Path) -> Path:
        """Of the file, in a tree."""
        return root / "src" / "latflow" / self.file

    def altered(self, text: str) -> str:
        """The text of the file with the fault.

        Raises:
            FaultError: unless the text that it replaces stands there once.
        """
        if (found := text.count(self.was)) != 1 or self.was == self.now:
            raise FaultError(
                f"{self}: expected the text once in {self.file}, found it {found} times: {self.was!r}"
            )
        return text.replace(self.was, self.now)


def faults(folder: Path = LIST) -> list[Fault]:
    """All that are listed.

    Raises:
        FaultError: for one without tests or a reason, and for names that are there twice.
    """
    found = [
        Fault(file.stem, **entry)
        for file in sorted(folder.glob("*.toml"))
        for entry in tomllib.loads(file.read_text(encoding="utf-8"))["fault"]
    ]
    for fault in found:
        if bool(fault.tests) == bool(fault.equivalent):
            raise FaultError(f"{fault}: expected tests that catch it, or why none can, and not both")
    if twice := sorted({str(one) for one in found if sum(str(one) == str(other) for other in found) > 1}):
        raise FaultError(f"expected names that differ, got twice {', '.join(twice)}")
    return found


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: whether a test failed, which one, and after how many seconds."""

    fault: Fault
    caught: bool
    how: str
    seconds: float


@contextmanager
def faulty(fault: Fault, root: Path) -> Iterator[None]:
    """A tree with a fault in it, until the block ends."""
    path = fault.path(root)
    before, when = path.read_text(encoding="utf-8"), path.stat().st_mtime
    path.write_text(fault.altered(before), encoding="utf-8")
    # bytecode is known by the time of its source, to a second: another one now, the old one again later
    os.utime(path, (when + 10, when + 10))
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")
        os.utime(path, (when, when))


def status_of(root: Path, tests: str, limit: float, *, keep: bool) -> tuple[int, str]:
    """The status of pytest on some tests of a tree, and the last of what it wrote; -1 beyond the time limit.

    Each call is a process of its own, which begins with the libraries loaded: see `_PRELOADED`. Bytecode is
    written where it may be kept.
    """
    with tempfile.NamedTemporaryFile(suffix=".txt") as log:
        process = _CONTEXT.Process(target=_pytest, args=(root, shlex.split(tests), log.name, keep))
        process.start()
        process.join(limit)
        if late := process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        written = log.read().decode("utf-8", "replace")
        return -1 if late else process.exitcode, written[-2000:]


_CONTEXT = multiprocessing.get_context("forkserver")

_PRELOADED = [
    *("torch", "scipy.stats", "scipy.optimize", "scipy.sparse.csgraph", "xarray", "zarr", "h5netcdf"),
    *("matplotlib.figure", "pydantic", "typer", "jinja2", "hypothesis", "beartype", "jaxtyping"),
]
"""What all tests need besides the library itself, and what takes longer to load than most of them to run."""


def _pytest(root: Path, tests: Sequence[str], log: str, keep: bool) -> None:
    """In a process of its own: the tests of a tree, with what they write in a file."""
    os.setsid()
    with open(log, "w") as file:  # noqa: PTH123 (whose number is wanted)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(root)
    os.environ |= {"PYTHONPATH": str(root / "src")} | ({} if keep else {"PYTHONDONTWRITEBYTECODE": "1"})
    sys.path.insert(0, str(root / "src"))
    sys.dont_write_bytecode = not keep
    import pytest

    status = int(pytest.main([*_HOW, *tests]))
    sys.stdout.flush()
    os._exit(status)  # whatever threads a test has left


def judged(fault: Fault, root: Path, limit: float) -> Outcome:
    """Run its tests with the fault in place."""
    start = time.perf_counter()
    with faulty(fault, root):
        status, written = status_of(root, fault.tests, limit, keep=False)
    seconds = time.perf_counter() - start
    failed = next((line for line in written.split("\n") if line.startswith(("FAILED", "ERROR"))), "")
    how = "time limit" if status < 0 else failed.partition(" ")[2].partition(" - ")[0]
    return Outcome(fault, status != 0, how or ("does not start" if status else ""), seconds)


def together(found: Sequence[Fault]) -> list[str]:
    """The tests of many faults, in as few calls of pytest as test files where they are named by these."""
    by_file: dict[str, dict[str, None]] = {}
    others: dict[str, None] = {}
    for fault in found:
        words = shlex.split(fault.tests)
        if any(word.startswith("-") for word in words):
            others[fault.tests] = None
            continue
        for word in words:
            by_file.setdefault(word.partition("::")[0], {})[word] = None
    return [shlex.join([file] if file in words else words) for file, words in sorted(by_file.items())] + list(
        others
    )


def run(chosen: Sequence[Fault], jobs: int, limit: float, console: Console) -> list[Outcome]:
    """What becomes of each fault, in copies of this tree, several at once.

    Raises:
        FaultError: when tests fail without any fault.
    """
    able = [fault for fault in chosen if not fault.equivalent]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(jobs):
            free.put(copied(Path(folder) / str(number)))

        def in_a_tree(work, *arguments):
            root = free.get()
            try:
                return work(root, *arguments)
            finally:
                free.put(root)

        sound = together(able)
        console.print(f"{len(able)} faults in {jobs} at once; first their tests without them")
        for text, status, written in _as_they_come(
            pool, len(sound), console, in_a_tree, [(_sound, text, limit) for text in sound]
        ):
            if status:
                raise FaultError(f"expected tests that pass without a fault, got from {text}:\n{written}")
        return list(
            _as_they_come(pool, len(able), console, in_a_tree, [(_judged, fault, limit) for fault in able])
        )


def copied(root: Path) -> Path:
    """A copy of what the tests need."""
    leave = shutil.ignore_patterns("__pycache__", ".*")
    for name in _NEEDED:
        shutil.copytree(HERE.parent / name, root / name, ignore=leave)
    for file in HERE.parent.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copy2(file, root)
    return root


def _sound(root: Path, text: str, limit: float) -> tuple[str, int, str]:
    return text, *status_of(root, text, 10 * limit, keep=True)


def _judged(root: Path, fault: Fault, limit: float) -> Outcome:
    return judged(fault, root, limit)


def _as_they_come(pool, number, console, in_a_tree, works) -> Iterator:
    start, done = time.perf_counter(), count(1)
    waiting = [pool.submit(in_a_tree, *work) for work in works]
    try:
        for future in as_completed(waiting):
            found, ready = future.result(), next(done)
            left = (time.perf_counter() - start) / ready * (number - ready)
            about = f"[{ready}/{number}, {left / 60:.0f} min left]"
            if isinstance(found, Outcome):
                word = "caught" if found.caught else "LIVED "
                console.print(
                    f"{about} {word} {found.seconds:5.1f} s  {found.fault}  {found.how}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
            yield found
    finally:
        for future in waiting:
            future.cancel()


def told(outcomes: Sequence[Outcome], chosen: Sequence[Fault], console: Console) -> float:
    """Print what lived and the score by area; the score of all."""
    for one in sorted((one for one in outcomes if not one.caught), key=lambda one: str(one.fault)):
        console.print(
            f"lived: {one.fault}\n  {one.fault.file}: {one.fault.was!r}\n  now {one.fault.now!r}"
            f"\n  not seen by {one.fault.tests}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    table = Table("area", "faults", "equivalent", "caught", "score", "seconds")
    areas = [*dict.fromkeys(fault.area for fault in chosen)]
    for area in [*areas, "all"]:
        of_area = [one for one in outcomes if area in ("all", one.fault.area)]
        none = sum(bool(fault.equivalent) for fault in chosen if area in ("all", fault.area))
        caught, seconds = sum(one.caught for one in of_area), sum(one.seconds for one in of_area)
        score = f"{caught / len(of_area):.0%}" if of_area else "–"
        table.add_row(area, f"{len(of_area) + none}", f"{none}", f"{caught}", score, f"{seconds:.0f}")
    console.print(table)
    return sum(one.caught for one in outcomes) / max(len(outcomes), 1)


def main() -> int:
    """Run the faults that are asked for; 1 where too many lived, 2 where the list is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help='of these names, as "runs: *" or "*Pareto*"')
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for the tests of one fault")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    _CONTEXT.set_forkserver_preload(_PRELOADED)
    console = Console()
    try:
        chosen = [fault for fault in faults() if fnmatch.fnmatchcase(str(fault), asked.only)]
        if not chosen:
            raise FaultError(f"expected faults by the name {asked.only!r}, found none")
        for fault in chosen:
            fault.altered(fault.path(HERE.parent).read_text(encoding="utf-8"))
        score = told(run(chosen, asked.jobs, asked.limit, console), chosen, console)
    except FaultError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    return 0 if score >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
