"""The theories, under the name by which they are used: `from latflow.actions import Phi4`."""

from typing import TYPE_CHECKING, Any

import latflow.theories as home

if TYPE_CHECKING:
    from latflow.theories import *  # noqa: F403

__path__ = home.__path__


def __getattr__(name: str) -> Any:
    return getattr(home, name)


def __dir__() -> list[str]:
    return dir(home)
