"""Files that others may have made, asked for their kind and size before they are read. Nothing heavy here."""

import stat
from pathlib import Path


def read_whole(path: Path, largest: int) -> bytes:
    """What a file holds, which is asked for its kind and size before it is read.

    Raises:
        OSError: when it cannot be read.
        ValueError: for what is no plain file, such as a device that never ends, and for a larger one.
    """
    known = path.stat()
    if not stat.S_ISREG(known.st_mode):
        raise ValueError(f"expected a plain file at {path}")
    if known.st_size > largest:
        raise ValueError(f"expected at most {largest} bytes in {path}, found {known.st_size}")
    return path.read_bytes()
