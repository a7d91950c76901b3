"""The commit of latflow's own source, which says more than its version between two releases."""

import json
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


@cache
def commit() -> str | None:
    """The commit, with "+changes" behind it where files have changed since; None where it is not known.

    It is known in a checkout, and of what pip has installed from a repository; a release has its version.
    """
    try:
        installed = json.loads(distribution("latflow").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        installed = {}
    if found := installed.get("vcs_info", {}).get("commit_id"):
        return found
    # a package that lies within the repository of somebody else is no part of it
    if _git("ls-files", "--error-unmatch", "version.py") is None:
        return None
    head, changes = (
        _git("rev-parse", "HEAD"),
        _git("status", "--porcelain", "--untracked-files=no", "--", "."),
    )
    return head and head + ("+changes" if changes else "")


def _git(*arguments: str) -> str | None:
    """What git says in the folder of the package; None where there is no git, or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=_PACKAGE, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
