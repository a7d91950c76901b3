"""What commands are told, in the same words by all of them."""

from pathlib import Path
from typing import Annotated

import typer


def user_path(text: str) -> Path:
    """A path as one types it: ~ is the home folder, also where no shell has seen it."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # a name after ~ that no user has
        return path


def _source(text: str) -> str:
    return str(user_path(text))


Source = Annotated[
    str,
    typer.Argument(
        metavar="PRESET|FILE|DIR", help="A preset, a TOML file, or the folder of a run.", parser=_source
    ),
]
Existing = Annotated[
    str, typer.Argument(metavar="DIR|PRESET", help="The folder of a run, or its preset.", parser=_source)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Change one key, such as training.batch=512."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The folder of the run; runs/NAME if none.", parser=user_path),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table: the last lines alone.")]
Sources = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="The folders of two or more runs.", parser=_source)
]
Jobs = Annotated[
    int,
    typer.Option("-j", "--jobs", min=1, max=1000, help="How many runs of a scan at once, on shared threads."),
]
