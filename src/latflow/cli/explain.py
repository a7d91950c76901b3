"""What goes wrong, in one message and one exit code."""

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

Parameters = ParamSpec("Parameters")

EXIT_WRONG_INPUT = 2
EXIT_DISK = 74
"""EX_IOERR of sysexits.h."""
EXIT_SIGNAL = 128
"""To which shells add the number of the signal."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def explained(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Let a command end with one message instead of a traceback, where the cause lies outside the program.

    Several processes that train together meet most errors together: then the first alone tells of them.
    """

    @functools.wraps(command)
    def guarded(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        from latflow.errors import LatflowError, ProcessError

        try:
            command(*arguments, **options)
        except ProcessError as error:
            _give_up(str(error), EXIT_WRONG_INPUT)
        except LatflowError as error:
            _give_up(str(error) if _first() else None, EXIT_WRONG_INPUT)
        except KeyboardInterrupt as error:
            signum = getattr(error, "signum", 2)
            saved = "stopped; everything is saved, and the same command goes on from here"
            _give_up(saved if _first() else None, EXIT_SIGNAL + signum)
        except BrokenPipeError:
            raise
        except OSError as error:
            if _in_foreign(error) is not None:
                _give_up(_in_foreign(error), EXIT_WRONG_INPUT)
            full = "; nothing that was written is lost: free some space, and the same command goes on"
            _give_up(f"{error}{full if error.errno in _FULL else ''}", EXIT_DISK)

        except Exception as error:
            told = _in_foreign(error)
            if told is None:
                raise
            _give_up(told if _first() else None, EXIT_WRONG_INPUT)

    return guarded


def _in_foreign(error: BaseException) -> str | None:
    """An error that the code of a user's own file has made, with file and line; None for all others.

    It is theirs where their file is the last but for libraries: not where they called a part of this package
    that then failed for reasons of its own, unless that refused what it was given.
    """
    from latflow.registry import foreign_frame

    frame = foreign_frame(error)
    if frame is None:
        return None
    where = f"{frame.filename}, line {frame.lineno}, in {frame.name}"
    return f"{where}: {type(error).__name__}: {error}\n    {frame.line}"


def _first() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _give_up(message: str | None, code: int) -> None:
    sys.stdout.flush()
    if message is not None:
        typer.echo(f"latflow: {message}", err=True)
    raise typer.Exit(code)
