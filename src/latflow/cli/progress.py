"""How far a stage has come: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int, str], None]
"""Told how many steps are done, and a note such as the present ESS."""

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(what: str, total: int, console: Console | None = None) -> Iterator[Advance]:
    """Show the progress of `total` steps on stderr; nothing appears before the first step."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, what, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
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
    """A line at every tenth of the way, and at least every few seconds."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self.console, self.what, self.total = console, what, total
        self.started: tuple[float, int] | None = None
        self.printed = (float("-inf"), -1)

    def __call__(self, done: int, note: str) -> None:
        now = time.monotonic()
        self.started = self.started or (now, done)
        tenth = 10 * done // self.total
        if tenth == self.printed[1] and now - self.printed[0] < _SECONDS_BETWEEN_LINES:
            return
        self.printed = (now, tenth)
        parts = [self.what, f"{done}/{self.total}", note, self._time_left(now, done)]
        self.console.print(
            "  ".join(part for part in parts if part), highlight=False, markup=False, soft_wrap=True
        )

    def _time_left(self, now: float, done: int) -> str:
        then, first = self.started or (now, done)
        if done in (first, self.total):
            return ""
        seconds = round((now - then) / (done - first) * (self.total - done))
        return f"{seconds // 60}:{seconds % 60:02d} left"
