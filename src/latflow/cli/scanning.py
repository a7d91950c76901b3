"""The runs of a scan, one after the other or several at once, and what they have found together."""

import contextlib
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import torch
import typer

from latflow.cli.explain import EXIT_SIGNAL, EXIT_VERDICT, EXIT_WRONG_INPUT, explained
from latflow.cli.findings import print_findings
from latflow.errors import ConfigError
from latflow.runs import Run
from latflow.runs.interrupts import deferred_signals
from latflow.runs.lock import locked
from latflow.scans import ScanFolder, ScannedRun, findings
from latflow.training.world import launched

_SEVERITY = (0, 3, 1, 2, 74, 70)
"""Exit codes from the best to the worst: passed, inconclusive, failed, wrong input, disk, defect."""
_WAIT = 0.05
"""Seconds between two looks at what runs."""
_PATIENCE = 30.0
"""Seconds in which a process that was told to stop at once does so."""


def carry_out(scan: ScanFolder, jobs: int, quiet: bool = False) -> int:
    """Do what is left of a scan, and show what it has found.

    Args:
        scan: the scan.
        jobs: how many runs at once.
        quiet: whether the end of each is told alone, and the page of all.

    Returns:
        The worst of the exit codes of the runs.

    Raises:
        ConfigError: under torchrun.
        RunFolderError: when the folder holds something else, or is in use.
        Interrupted: when a signal came; everything is saved.
    """
    if launched().size > 1:
        raise ConfigError("expected one process for a scan, which starts its runs itself: leave torchrun out")
    scan.check()
    with locked(scan.path):
        scan.write()
        left = [run for run in scan.runs if not run.finished]
        _say(_announced(scan, len(left), jobs))
        at_once = jobs > 1 and len(left) > 1
        codes = _side_by_side(left, jobs, quiet) if at_once else _one_by_one(left, quiet)
        return _worse(codes, _concluded(scan, quiet))


def _announced(scan: ScanFolder, left: int, jobs: int) -> str:
    axes = " × ".join(f"{len(axis.steps)} of {' with '.join(axis.keys)}" for axis in scan.scan.axes)
    done = len(scan.runs) - left
    state = f", {done} of them finished" if done else ""
    at_once = f", {jobs} at once" if jobs > 1 and left > 1 else ""
    return f"scan {scan.scan.name} in {scan.path}: {len(scan.runs)} runs, {axes}{state}{at_once}"


def _one_by_one(left: list[ScannedRun], quiet: bool) -> int:
    worst = 0
    for number, run in enumerate(left, 1):
        _say(f"run {number} of {len(left)}: {run.name}")
        since = time.monotonic()
        code = _guarded(functools.partial(_complete, quiet), run)
        if code >= EXIT_SIGNAL:
            raise typer.Exit(code)
        _say(_outcome(run, code, time.monotonic() - since))
        worst = _worse(worst, code)
    return worst


def _complete(quiet: bool, run: ScannedRun) -> None:
    """All stages of a run in this process, with the exit code of its verdict."""
    from latflow.cli import stages
    from latflow.workflow import judged, keep

    opened = Run.create_or_resume(run.path, run.config)
    stages.train(opened, quiet)
    stages.sample(opened, quiet)
    validation = judged(opened)
    keep(opened, validation)
    stages.report(opened, validation)
    raise typer.Exit(EXIT_VERDICT[validation.verdict])


def _side_by_side(left: list[ScannedRun], jobs: int, quiet: bool) -> int:
    """Each run in a process of its own, which gets its share of the threads."""
    waiting, working, worst = list(left), [], 0
    threads = _threads(min(jobs, len(left)))
    with deferred_signals() as stop, _ended(working):
        while working or (waiting and not stop):
            for run in list(waiting):
                busy = {one.name for one in (*waiting, *(process.run for process in working))}
                if stop or len(working) == jobs or (run.point.continues and run.point.previous in busy):
                    continue
                waiting.remove(run)
                if code := _guarded(_create, run):
                    _say(_outcome(run, code, 0.0))
                    worst = _worse(worst, code)
                else:
                    working.append(_Process(run, threads, quiet))
            for process in list(working):
                if stop.signum is not None:
                    process.signal(stop.signum)
                if (code := process.code) is not None:
                    working.remove(process)
                    _say(_outcome(process.run, code, process.seconds))
                    worst = _worse(worst, code)
            time.sleep(_WAIT)
        stop.heed()
    return worst


def _create(run: ScannedRun) -> None:
    """The folder of a run, which says all that its process must know."""
    Run.create_or_resume(run.path, run.config)


class _Process:
    """`latflow run` in a process of its own, whose progress is told with the name of the run in front.

    It has a session of its own, so that Ctrl-C comes to it once: from here.
    """

    def __init__(self, run: ScannedRun, threads: int, quiet: bool) -> None:
        self.run, self.since, self.told = run, time.monotonic(), False
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "latflow", "run", str(run.path), *(["--quiet"] if quiet else [])],
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._tell, daemon=True).start()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.since

    @property
    def code(self) -> int | None:
        """The exit code, None while it works: 128 and the number of a signal that has ended it."""
        code = self.popen.poll()
        return code if code is None or code >= 0 else EXIT_SIGNAL - code

    def signal(self, signum: int) -> None:
        """Hand on the signal that asks to stop, once."""
        if not self.told:
            self.told = True
            self.popen.send_signal(signum)

    def _tell(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            _say(f"{self.run.name}  {line.rstrip()}")


@contextlib.contextmanager
def _ended(working: list[_Process]) -> Iterator[None]:
    """Whatever ends the block ends what still works: saved to its last block, or to the last but one."""
    try:
        yield
    finally:
        for process in working:
            process.popen.terminate()
        for process in working:
            try:
                process.popen.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.popen.kill()


def _threads(jobs: int) -> int:
    """How many each of several processes gets, out of those that one would take."""
    return max(1, torch.get_num_threads() // jobs)


def _guarded(stage: Callable[[ScannedRun], None], run: ScannedRun) -> int:
    """The exit code with which a command would end that does no more than this, and tells what went wrong."""
    try:
        explained(stage)(run)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def _outcome(run: ScannedRun, code: int, seconds: float) -> str:
    words = {0: "validated", 1: "validation FAILED", 3: "validation INCONCLUSIVE"}
    other = f"ended with status {code}" if code < EXIT_SIGNAL else f"ended by signal {code - EXIT_SIGNAL}"
    return f"{run.name}: {words.get(code, other)}, {seconds:.1f} s"


def _worse(one: int, other: int) -> int:
    """The worse of two exit codes; those that no command of this package has are worst of all."""
    return max(one, other, key=lambda code: _SEVERITY.index(code) if code in _SEVERITY else len(_SEVERITY))


def _concluded(scan: ScanFolder, quiet: bool) -> int:
    """Write and show what all runs have found; the worst exit code of their verdicts."""
    from latflow.scans.writing import write

    found = findings(scan)
    page = write(scan, found)
    if not quiet:
        print_findings(found)
    typer.echo(page)
    return functools.reduce(
        _worse, (EXIT_VERDICT.get(group.state, EXIT_WRONG_INPUT) for group in found.groups)
    )


def _say(line: str) -> None:
    typer.echo(line, err=True)
