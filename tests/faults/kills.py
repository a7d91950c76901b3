"""Kills at random moments of every stage, each followed by the same command, until the run has ended.

The moment is a time within a stage, or one of the file operations in it; now and then the process is a cold
one, which is met while it still imports. After each kill a reader finds all that was reported as written; at
the end everything is that of a run which nobody disturbed, in every bit, and no file is there too many.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.children import STAGES, Board, Child, command, strike_at
from faults.folders import Found, arguments, differences, partial, read, whole

WAYS: dict[str, tuple[int, ...]] = {
    "−9": (signal.SIGKILL,),
    "TERM": (signal.SIGTERM,),
    "HUP": (signal.SIGHUP,),
    "INT": (signal.SIGINT,),
    "INT twice": (signal.SIGINT, signal.SIGINT),
}
"""What ends a process, by its name."""

COLD = 0.08
"""The share of processes that import everything themselves."""
_PAUSE = 0.05
"""Seconds at most between two signals."""
_MOST = 12
"""Kills in the life of one run."""


@dataclass
class Undisturbed:
    """A run that nobody disturbed: what it holds, and how long and busy its stages were."""

    found: Found
    seconds: dict[str, float]
    operations: dict[str, int]


@dataclass
class Tally:
    """What was done, and what was found wrong."""

    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many kills hit."""
        return self.kills.total()


@dataclass
class Life:
    """One run, killed again and again.

    Attributes:
        kind: of `KINDS`.
        place: a folder for it and its logs.
        known: a run of this kind that nobody disturbed.
        generator: of all that is random.
        tally: where it is written down.
    """

    kind: str
    place: Path
    known: Undisturbed
    generator: random.Random
    tally: Tally
    lines: list[bytes] = field(default_factory=list)
    did: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.place / "run"

    def fail(self, what: str) -> None:
        """Write down what went wrong, and how it came to it."""
        self.tally.failures.append(f"{self.kind}: {what} (after {'; '.join(self.did[-4:]) or 'nothing'})")

    def live(self, kills: int) -> None:
        """Kill it so many times, or until it has ended, and then let it end."""
        self.place.mkdir(parents=True)
        stages = [stage for stage in STAGES[:-1] if stage != "curriculum" or self.kind == "curriculum"]
        weights = [1 if stage in ("start", "validation", "report") else 2 for stage in stages]
        planned = sorted(self.generator.choices(stages, weights, k=kills), key=STAGES.index)
        for number, stage in enumerate(planned):
            if not self.strike(stage, share=1 / planned[number:].count(stage)):
                break
            if not self.check():
                return
        self.end()

    def strike(self, stage: str, share: float) -> str | None:
        """Start the command and kill it within a stage; in which it was hit, None where it ended before."""
        name = self.generator.choice(list(WAYS))
        if self.generator.random() < COLD:
            return self._cold(name)
        signals, log = WAYS[name], self.place / "log"
        log.unlink(missing_ok=True)
        by_operation, prepare = self.generator.random() < 0.5, lambda: None
        if by_operation:
            operation = 1 + int(self.generator.random() * self.known.operations.get(stage, 1))
            prepare = lambda: strike_at(operation, stage, signals, self.path)  # noqa: E731
        children = started(self.kind, self.path, log, prepare)
        target = self.generator.choice(children)
        if not by_operation:
            wait_for(lambda: target.board["stage"] >= STAGES.index(stage), children)
            time.sleep(self.generator.random() * share * self.known.seconds.get(stage, 0.1))
            met = children[0].board.stage
            self._send(signals, children, target)
        codes = ended(children)
        met = children[0].board.stage if by_operation else met
        self.did.append(f"{name} in {met}{' at a file operation' if by_operation else ''}")
        return self._hit(name, met, codes, children)

    def _send(self, signals: Sequence[int], children: Sequence[Child], target: Child) -> None:
        """−9 and half of the others come to one process, the rest to all."""
        one = signals[0] == signal.SIGKILL or self.generator.random() < 0.5
        for number, signum in enumerate(signals):
            if number:
                time.sleep(self.generator.random() * _PAUSE)
            for child in [target] if one else children:
                child.send(signum)

    def _hit(self, name: str, met: str, codes: list[int | None], children: Sequence[Child]) -> str | None:
        if any(code in (0, 1, 3) for code in codes[:1]):
            return None
        expected = {-WAYS[name][0], 128 + WAYS[name][0]}
        # the other process loses its partner, or is told to stop
        others = expected | ({2, 128 + signal.SIGTERM, -signal.SIGTERM, 0} if len(codes) > 1 else set())
        if met == "start" and len(codes) > 1:
            others |= {None}  # who waits for a partner that is gone hears no signal, and torchrun kills it
        if not expected & set(codes) or not set(codes) <= others:
            said = "\n".join(child.said for child in children[:1])
            self.fail(f"expected a status of {sorted(expected)}, got {codes}: {said[-1500:]}")
        if (word := traceback_in(children[0].said)) and codes[0] != 2:
            self.fail(f"{word} was shown: {children[0].said[-1500:]}")
        self.tally.kills[self.kind, met, name] += 1
        self.reported = max((child.board for child in children), key=lambda board: board["training"])
        return met

    def _cold(self, name: str) -> str | None:
        """A process as the shell starts it, or two by torchrun, met at some time from its first import on."""
        several = self.kind == "pair"
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if several else []
        with (self.place / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *launch, "-m", "latflow", *arguments(self.kind, self.path)],
                stdout=log,
                stderr=log,
                preexec_fn=_listening,
                start_new_session=True,
            )
            time.sleep(self.generator.random() * (12 if several else 6))
            for number, signum in enumerate(WAYS[name]):
                if number:
                    time.sleep(self.generator.random() * _PAUSE)
                if process.poll() is None:
                    if signum == signal.SIGKILL:
                        os.killpg(process.pid, signum)
                    else:
                        process.send_signal(signum)
            try:
                code = process.wait(120)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                self.fail(f"{name} did not end a cold process")
                return None
        self.did.append(f"{name} in a cold process")
        if code in (0, 1, 3) and not several:
            return None
        wait_for(lambda: not _in_group(process.pid), (), 30)
        self.tally.kills[self.kind, "cold process", name] += 1
        self.reported = Board()
        return "cold process"

    def check(self) -> bool:
        """After a kill: what was reported is there, and all that is there is right."""
        before = len(self.tally.failures)
        found = read(self.path, partial, self.place) if self.path.exists() else Found()
        if found.error:
            self.fail(found.error)
            return False
        if found.history[: len(self.lines)] != self.lines:
            self.fail("lines of the history have changed")
        self.lines = found.history
        if len(self.lines) < self.reported["training"]:
            self.fail(f"{self.reported['training']} records were reported, {len(self.lines)} are there")
        for chain in ("model", "beside"):
            if found.steps.get(chain, 0) < self.reported[chain]:
                self.fail(f"{self.reported[chain]} steps of {chain} were reported, {found.steps} are there")
        known = {
            name: self.known.found.numbers[name][: len(values)] for name, values in found.numbers.items()
        }
        if wrong := differences(found.numbers, known):
            self.fail(f"after the kill {wrong} differ")
        if found.results and found.results != self.known.found.results:
            self.fail("results.json has another verdict")
        return len(self.tally.failures) == before

    def end(self) -> None:
        """Let the command end, and compare."""
        children = started(self.kind, self.path, self.place / "log")
        codes = ended(children, 300)
        if codes[0] not in (0, 1, 3):
            self.fail(f"the last command ended with {codes}: {children[0].said[-1500:]}")
            return
        self.tally.runs[self.kind] += 1
        found, known = read(self.path, whole, self.place), self.known.found
        if found.error:
            self.fail(found.error)
        elif wrong := differences(found.numbers, known.numbers):
            self.fail(f"in the end {wrong} differ")
        elif found.results != known.results:
            self.fail("in the end results.json differs")
        if found.files != known.files:
            self.fail(f"files differ: {sorted(found.files ^ known.files)}")


def started(
    kind: str,
    path: Path,
    log: Path,
    prepare: Callable[[], None] = lambda: None,
    more: Sequence[str] = (),
) -> list[Child]:
    """The command of a kind, with more options: one process, or two as torchrun starts them."""
    if kind != "pair":
        return [command([*arguments(kind, path), *more], log, prepare=prepare)]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _port()}
    return [
        command(
            [*arguments(kind, path), *more],
            log if rank == 0 else log.with_name("log-1"),
            {**world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            prepare if rank == 0 else lambda: None,
        )
        for rank in (0, 1)
    ]


def ended(children: Sequence[Child], seconds: float = 120.0) -> list[int | None]:
    """The exit codes. Where one process has failed the other is told to stop, as torchrun does."""
    until, told = time.monotonic() + seconds, False
    while any(child.poll() is None for child in children) and time.monotonic() < until:
        if not told and any(child.code not in (None, 0) for child in children):
            time.sleep(0.5)
            told, until = True, min(until, time.monotonic() + 40)
            for child in children:
                child.send(signal.SIGTERM)
        time.sleep(0.005)
    for child in children:
        if child.poll() is None:
            child.send(signal.SIGKILL)
            child.wait()
            child.code = None
    return [child.code for child in children]


def wait_for(ready: Callable[[], bool], children: Sequence[Child], seconds: float = 120.0) -> None:
    """Until something is so, or all children have ended."""
    until = time.monotonic() + seconds
    while not ready() and time.monotonic() < until:
        if children and all(child.poll() is not None for child in children):
            return
        time.sleep(0.001)


def undisturbed(kind: str, place: Path) -> Undisturbed:
    """Let a run of a kind end, and watch it."""
    path = place / "run"
    place.mkdir(parents=True)
    never = lambda: strike_at(10**9, "start", (), path)  # noqa: E731
    children = started(kind, path, place / "log", never)
    board, since = children[0].board, time.monotonic()
    seconds: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    while children[0].poll() is None:
        stage, now, done = board.stage, time.monotonic(), board["operations"]
        seconds[stage] += now - since
        operations[stage] += done - operations.total()
        since = now
        time.sleep(0.0005)
    codes = ended(children)
    if codes[0] not in (0, 1, 3):
        raise RuntimeError(f"an undisturbed run of the kind {kind} ended with {codes}: {children[0].said}")
    found = read(path, whole, place)
    if found.error or not found.results:
        raise RuntimeError(f"an undisturbed run of the kind {kind} cannot be read: {found.error}")
    shutil.copytree(path, place / "again")
    again = [child.wait() for child in started(kind, place / "again", place / "log")]
    if again[0] != codes[0] or read(place / "again", whole, place).results != found.results:
        raise RuntimeError(f"a run of the kind {kind} is not the same when it is made again")
    return Undisturbed(found, dict(seconds), dict(operations))


def kill_runs(counts: dict[str, int], seed: int, place: Path, say: Callable[[str], None]) -> Tally:
    """Kill runs of each kind so many times.

    Args:
        counts: of kills, by kind.
        seed: of all that is random.
        place: an empty folder.
        say: told of each run that has ended.
    """
    tally = Tally()
    for kind, count in counts.items():
        if not count:
            continue
        generator = random.Random(f"{seed} {kind}")
        known = undisturbed(kind, place / f"{kind}-undisturbed")
        for number in _numbers():
            left = count - sum(n for key, n in tally.kills.items() if key[0] == kind)
            if left <= 0:
                break
            life = Life(kind, place / f"{kind}-{number}", known, generator, tally)
            before = len(tally.failures)
            life.live(min(left, generator.randint(2, _MOST)))
            say(f"{kind} {number}: {'; '.join(life.did)}")
            if len(tally.failures) == before:
                shutil.rmtree(life.place)
    return tally


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def traceback_in(said: str) -> str:
    """Whether a traceback was shown."""
    return "Traceback" if "Traceback" in said else ""


def _port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _listening() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


def _in_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
