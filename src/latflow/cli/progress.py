"""How far a stage has come: a bar on a terminal, elsewhere a line at its end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int, str], None]
"""Told how many steps are done, and a note such as the present ESS."""

_SECONDS_BETWEEN_LINES = 60.0


@contextmanager
def progress(what: str, total: int, quiet: bool = False, console: Console | None = None) -> Iterator[Advance]:
    """Show the progress of `total` steps on stderr; nothing appears before the first step, or if quiet."""
    console = console or Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield _Lines(console, what, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(what, total=total, visible=False, note="")

        def advance(done: int, note: str) -> None:
            if not bars.tasks[task].visible:
                # a stage that goes on has made its first steps earlier: they say nothing of its speed
                bars.reset(task, completed=done, visible=True, note=note)
            bars.update(task, completed=done, note=note)

        yield advance


class _Lines:
    """A line at the end; before that one a minute, so that the log of a batch system shows that it moves."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self.console, self.what, self.total = console, what, total
        self.started: tuple[float, int] | None = None
        self.printed = time.monotonic()

    def __call__(self, done: int, note: str) -> None:
        now = time.monotonic()
        self.started = self.started or (now, done)
        if done < self.total and now - self.printed < _SECONDS_BETWEEN_LINES:
            return
        self.printed = now
        parts = [self.what, f"{done}/{self.total}", note, self._time(now, done)]
        self.console.print(
            "  ".join(part for part in parts if part), highlight=False, markup=False, soft_wrap=True
        )

    def _time(self, now: float, done: int) -> str:
        """How long it will take, or at the end has taken since its first step here."""
        then, first = self.started or (now, done)
        if done == first:
            return ""
        if done == self.total:
            return f"in {_clock(now - then)}"
        return f"{_clock((now - then) / (done - first) * (self.total - done))} left"


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
