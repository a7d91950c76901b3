"""The flows, under the name by which they are used: `from latflow.flows import affine_flow`."""

from typing import TYPE_CHECKING, Any

import latflow.densities.flows as home

if TYPE_CHECKING:
    from latflow.densities.flows import *  # noqa: F403

__path__ = home.__path__


def __getattr__(name: str) -> Any:
    return getattr(home, name)


def __dir__() -> list[str]:
    return dir(home)
