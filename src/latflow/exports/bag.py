"""A bag after RFC 8493 (BagIt) in a zip: files, and checksums of all of them that `sha256sum -c` reads.

The same files make the same bytes: they have no times of their own there, and stand in a given order.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from latflow.version import __version__


@dataclass(frozen=True)
class Member:
    """A file of a record.

    Attributes:
        name: its path within the crate.
        content: what it holds, or the file that does.
        words: what it is.
    """

    name: str
    content: bytes | Path
    words: str

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @property
    def digest(self) -> str:
        """SHA-256 of the contents."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        with self.content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def write_bag(target: Path, root: str, members: Sequence[Member], made: str) -> None:
    """Write the zip of a bag: its payload, and the files that say what must be there.

    Args:
        target: the zip.
        root: the folder in it that holds everything.
        members: the payload.
        made: the day, 2026-11-26, on which that was made.
    """
    payload = [Member(f"data/{one.name}", one.content, one.words) for one in members]
    tags = {
        "bagit.txt": "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": f"Bag-Software-Agent: latflow {__version__}\nBagging-Date: {made}\n"
        f"Payload-Oxum: {sum(one.size for one in payload)}.{len(payload)}\n",
        "manifest-sha256.txt": _manifest(payload),
    }
    tag_files = [Member(name, text.encode(), "") for name, text in tags.items()]
    tag_files.append(Member("tagmanifest-sha256.txt", _manifest(tag_files).encode(), ""))
    with ZipFile(target, "w") as archive:
        for one in (*tag_files, *payload):
            _put(archive, f"{root}/{one.name}", one)


def _manifest(members: Sequence[Member]) -> str:
    """Checksums as `sha256sum` writes them."""
    return "".join(f"{one.digest}  {one.name}\n" for one in sorted(members, key=lambda one: one.name))


def _put(archive: ZipFile, name: str, member: Member) -> None:
    entry = ZipInfo(name)  # of 1980, when zip begins: no time of its own
    entry.compress_type, entry.external_attr, entry.create_system = ZIP_DEFLATED, 0o644 << 16, 3
    entry.file_size = member.size
    with archive.open(entry, "w") as inside:
        if isinstance(member.content, bytes):
            inside.write(member.content)
        else:
            with member.content.open("rb") as file:
                shutil.copyfileobj(file, inside)
