"""Multilevel densities by the name under which they are used: `from latflow.multilevel import multilevel`."""

from typing import TYPE_CHECKING, Any

import latflow.densities.multilevel as home

if TYPE_CHECKING:
    from latflow.densities.multilevel import *  # noqa: F403

__path__ = home.__path__


def __getattr__(name: str) -> Any:
    return getattr(home, name)


def __dir__() -> list[str]:
    return dir(home)
