"""Exact results to hold samplers against: closed forms, and sums that converge to any accuracy.

They lie in the folders of the theories, and are found here by name when first used.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from latflow.theories import folders

if TYPE_CHECKING:
    from latflow.theories.exponential.exact import *  # noqa: F403
    from latflow.theories.ising.exact import *  # noqa: F403
    from latflow.theories.phi4.exact import *  # noqa: F403
    from latflow.theories.schwinger.exact import *  # noqa: F403
    from latflow.theories.u1.exact import *  # noqa: F403


def _modules() -> list[str]:
    modules = (f"latflow.theories.{folder}.exact" for folder in folders())
    return [module for module in modules if find_spec(module)]


def __getattr__(name: str) -> Any:
    """What the `exact` module of one of the theories offers."""
    if not name.startswith("_"):
        for module in map(import_module, _modules()):
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for module in _modules() for name in import_module(module).__all__)
