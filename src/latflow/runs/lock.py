"""Which process holds the folder of a run."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from latflow.errors import RunFolderError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

_LOCK = ".lock"
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What systems say of a file that another process holds."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is missing.

    Raises:
        RunFolderError: when another process holds it, or its file system cannot say so.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / _LOCK).open("ab") as handle:
        try:
            _hold(handle)
        except OSError as error:
            if error.errno in _HELD:
                raise RunFolderError(
                    f"{path} is in use by another process: wait until it has ended"
                ) from None
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            raise RunFolderError(
                f"the file system of {path} locks no files ({error.strerror}), so that two processes could "
                "write to one run: choose a folder on another one"
            ) from error
        yield  # the lock goes with the file handle, also when the process is killed


def _hold(handle: IO[bytes]) -> None:
    """Lock a file, or raise at once."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        # of its first byte, whether that is there or not
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
