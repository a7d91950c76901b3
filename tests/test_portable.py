"""Systems that are not POSIX: what they lack stops neither an import nor a lock."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from latflow import storage
from latflow.errors import RunFolderError
from latflow.runs import lock

ELSEWHERE = """
import os, signal, sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
del os.sysconf
for name in ("SIGHUP", "SIGPIPE"):
    delattr(signal, name)
import latflow.__main__, latflow.cli.scanning, latflow.ensembles, latflow.exports, latflow.planning
import latflow.report, latflow.runs.interrupts, latflow.scans
from latflow.config import load_config
load_config("phi4-quick")  # which compares with the memory of the machine, where that is known
from latflow.terminal import SIGNALS, end_on_signals
end_on_signals()
print(*(signal.Signals(one).name for one in SIGNALS))
"""


def test_everything_is_imported_without_posix():
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["SIGINT", "SIGTERM"]


def test_the_lock_of_windows(tmp_path, monkeypatch):
    """As its msvcrt has it: a byte of a file that is held is refused with EACCES."""
    held = []

    def locking(number, mode, count):
        assert (mode, count) == (2, 1)
        if held:
            raise PermissionError(13, "Permission denied")
        held.append(number)

    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with lock.locked(tmp_path / "run"):
        assert len(held) == 1
        with pytest.raises(RunFolderError, match="in use by another process"), lock.locked(tmp_path / "run"):
            pass


def test_folders_are_not_opened_on_windows(tmp_path, monkeypatch):
    opened = []

    def opening(path, flags):
        assert path.is_file()
        opened.append(flags)
        return real(path, flags)

    real = os.open
    monkeypatch.setattr(storage, "_WINDOWS", True)
    monkeypatch.setattr(os, "open", opening)
    storage.write_text(tmp_path / "file", "text")
    assert opened == [os.O_RDWR]
    assert (tmp_path / "file").read_text() == "text"
