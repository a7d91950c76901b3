"""The networks, under the name by which they are used: `from latflow.autoregressive import dense_spins`."""

from typing import TYPE_CHECKING, Any

import latflow.densities.autoregressive as home

if TYPE_CHECKING:
    from latflow.densities.autoregressive import *  # noqa: F403

__path__ = home.__path__


def __getattr__(name: str) -> Any:
    return getattr(home, name)


def __dir__() -> list[str]:
    return dir(home)
