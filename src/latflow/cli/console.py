"""Standard output for tables."""

from rich.console import Console


def results_console(width: int = 120) -> Console:
    """Standard output, of this width where no terminal says how wide it is."""
    console = Console()
    return console if console.is_terminal else Console(width=width)
