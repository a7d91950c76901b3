"""Commands in processes of their own, forked from one that has everything loaded: they start in no time.

What a child does is written on a board that outlives it: the stage that it is in, and how far it has said
that it came. A child may be told to send itself a signal at one of its file operations.
"""

import itertools
import mmap
import os
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("start", "curriculum", "training", "sampling", "beside", "validation", "report", "end")
"""What a board says that a command does, in this order."""

_NUMBERS = ("stage", "operations", "training", "model", "beside")
_FILES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
"""Audit events of Python."""


class Board:
    """A few numbers that a child writes and its parent reads, whatever becomes of the child."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8 * len(_NUMBERS))

    def __getitem__(self, name: str) -> int:
        return struct.unpack_from("q", self.memory, 8 * _NUMBERS.index(name))[0]

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self.memory, 8 * _NUMBERS.index(name), value)

    @property
    def stage(self) -> str:
        """The stage that the child is in."""
        return STAGES[self["stage"]]


@dataclass
class Child:
    """A process.

    Attributes:
        pid: of it.
        board: what it does.
        log: what it prints.
    """

    pid: int
    board: Board
    log: Path
    code: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        """The exit code, −9 after a kill −9; None while it works."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float = 120.0) -> int | None:
        """The exit code; None where it has not ended within so many seconds."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        return self.code

    def send(self, signum: int) -> None:
        """A signal, where it still works."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    @property
    def said(self) -> str:
        """What it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


def load() -> None:
    """Load all that commands need, and what they load late, without leaving a thread: children inherit it."""
    import torch._dynamo  # which the first optimiser loads, in two seconds
    from matplotlib.figure import Figure

    import latflow.cli.findings
    import latflow.cli.scanning
    import latflow.cli.stages
    import latflow.cli.verdict
    import latflow.exports
    import latflow.report
    import latflow.validation
    import latflow.workflow  # noqa: F401
    from latflow.config import load_config

    torch.set_num_threads(1)
    load_config("phi4-quick")
    Figure().savefig(os.devnull, format="pdf")
    if (there := threading.active_count()) > 1 or len(list(Path("/proc/self/task").glob("*"))) > 1:
        raise RuntimeError(f"expected no thread before the first child, found {there}: set OMP_NUM_THREADS=1")


def call(action: Callable[[], Any], log: Path, prepare: Callable[[], None] = lambda: None) -> Child:
    """An action in a child, which ends with its exit code."""
    board = Board()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, board, log)
    code = 70
    try:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # nohup and shells hand down deaf ears
            signal.signal(signum, signal.SIG_DFL)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        _BOARD.append(board)
        prepare()
        action()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


_BOARD: list[Board] = []
"""In a child, its own."""


def command(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> Child:
    """A command of latflow in a child."""

    def act() -> None:
        from latflow.__main__ import main

        os.environ.update(environment or {})
        sys.argv = ["latflow", *arguments]
        _watch()
        _hurry()
        main()

    return call(act, log, prepare)


def strike_at(operation: int, stage: str, signals: Sequence[int], folder: Path) -> None:
    """In a child: send itself signals at a file operation of a stage in a folder, counted from 1."""
    board, inside, within = _BOARD[-1], str(folder), STAGES.index(stage)

    def count(*place: object) -> None:
        if board["stage"] < within or not all(str(one).startswith(inside) for one in place):
            return
        board["operations"] += 1
        if board["operations"] == operation:
            for signum in signals:
                os.kill(os.getpid(), signum)

    sys.addaudithook(lambda event, found: count(found[0]) if event in _FILES else None)
    plain = os.fsync

    def fsync(handle: int) -> None:
        count()
        plain(handle)

    os.fsync = fsync


def _hurry() -> None:
    """In a child: a report with two figures takes a second, and one with all of them four."""
    import latflow.report.plates as page

    plain = page.builders
    page.builders = lambda *of, **options: dict(itertools.islice(plain(*of, **options).items(), 2))


def _watch() -> None:
    """In a child: write on the board what its command does."""
    import latflow.report
    import latflow.runs.sampling
    import latflow.runs.training
    import latflow.workflow

    board = _BOARD[-1]

    def mark(name: str) -> None:
        board["stage"] = max(board["stage"], STAGES.index(name))

    def staged(module: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        setattr(module, name, wrap(getattr(module, name)))

    def training(plain: Callable[..., Any]) -> Callable[..., Any]:
        def train(folder: Any, on_record: Any = None) -> None:
            curriculum = folder.config.training and folder.config.training.curriculum
            steps = sum(curriculum.steps) if curriculum else 0
            mark("curriculum" if steps else "training")

            def told(record: Any) -> None:
                if on_record is not None:
                    on_record(record)
                board["training"] = record.step
                if record.step >= steps:
                    board["stage"] = STAGES.index("training")

            plain(folder, told)

        return train

    def sampling(plain: Callable[..., Any]) -> Callable[..., Any]:
        def sample(folder: Any, name: str, on_block: Any = None) -> None:
            board["stage"] = STAGES.index("sampling" if name == "model" else "beside")

            def told(report: Any) -> None:
                if on_block is not None:
                    on_block(report)
                board[name] = report.step

            plain(folder, name, told)

        return sample

    def marked(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(plain: Callable[..., Any]) -> Callable[..., Any]:
            def known(*arguments: Any) -> Any:
                mark(name)
                return plain(*arguments)

            return known

        return wrap

    def ending(plain: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any) -> Any:
            mark("report")
            page = plain(*arguments)
            mark("end")
            return page

        return write

    staged(latflow.runs.training, "train", training)
    staged(latflow.runs.sampling, "sample", sampling)
    staged(latflow.workflow, "judged", marked("validation"))
    staged(latflow.report, "write_report", ending)
