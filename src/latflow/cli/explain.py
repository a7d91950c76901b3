"""What goes wrong, in one message and one exit code."""

import contextlib
import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

Parameters = ParamSpec("Parameters")

EXIT_WRONG_INPUT = 2
EXIT_DEFECT = 70
"""EX_SOFTWARE of sysexits.h."""
EXIT_DISK = 74
"""EX_IOERR."""
EXIT_SIGNAL = 128
"""To which shells add the number of the signal."""
SIGPIPE = 13
"""Its number, also where the system has no such signal."""

EXIT_VERDICT = {"passed": 0, "failed": 1, "inconclusive": 3}
"""Of a verdict."""

_DEFECT = (
    "this is a defect of latflow, not of what you gave it: please report it with the lines above, the "
    "command and its configuration"
)

_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "Unable to allocate")

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
            # who read the output has closed it; what Python still holds of it goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_SIGNAL + SIGPIPE) from None
        except OSError as error:
            if _in_foreign(error) is not None:
                _give_up(_in_foreign(error), EXIT_WRONG_INPUT)
            full = "; nothing that was written is lost: free some space, and the same command goes on"
            _give_up(f"{_in_a_line(error)}{full if error.errno in _FULL else ''}", EXIT_DISK)
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort):
                raise
            told = _in_foreign(error) or _of_memory(error)
            if told is not None:
                _give_up(told if _first() else None, EXIT_WRONG_INPUT)
            traceback.print_exc()
            _give_up(_DEFECT if _first() else None, EXIT_DEFECT)

    return guarded


def exit_by(verdict: str) -> None:
    """End with the status of a verdict."""
    if status := EXIT_VERDICT[verdict]:
        raise typer.Exit(status)


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


def _in_a_line(error: OSError) -> str:
    """What the system says; of the libraries below some add lines on what they were about to write."""
    told = str(error)
    if "\n" in told and error.errno is not None:
        return f"[Errno {error.errno}] {os.strerror(error.errno)}"
    return told


def _of_memory(error: BaseException) -> str | None:
    """That memory does not suffice, which PyTorch tells by its words alone; None for all other errors."""
    words = str(error)
    if not isinstance(error, MemoryError) and not any(sign in words for sign in _NO_MEMORY):
        return None
    return (
        f"there is not enough memory ({words.strip().splitlines()[0] if words else type(error).__name__}): "
        "choose a smaller batch, training.sub_batch, training.recompute, fewer chains, a smaller block "
        "or lattice"
    )


def _first() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _give_up(message: str | None, code: int) -> None:
    with contextlib.suppress(OSError):  # a terminal that has gone
        sys.stdout.flush()
        if message is not None:
            typer.echo(f"latflow: {message}", err=True)
    raise typer.Exit(code)
