"""latflow: sample lattice field theories with neural networks, and prove that the numbers are right.

>>> import latflow as lf
>>> lf.actions.Phi4((8, 8), m2=-4.0, lam=8.0)
Phi4(lattice=(8, 8), m2=-4.0, lam=8.0)

The parts are loaded when they are first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latflow import (
        actions,
        analysis,
        autoregressive,
        errors,
        estimators,
        exact,
        flows,
        observables,
        runs,
        samplers,
        wilson,
    )
    from latflow.config import load_config
    from latflow.runs import Run
    from latflow.training import train

__version__ = "0.1.0"

_MODULES = (
    "actions",
    "analysis",
    "autoregressive",
    "config",
    "errors",
    "estimators",
    "exact",
    "flows",
    "observables",
    "runs",
    "samplers",
    "training",
    "wilson",
)
_FUNCTIONS = {"Run": "latflow.runs", "load_config": "latflow.config", "train": "latflow.training"}

__all__ = [
    "Run",
    "__version__",
    "actions",
    "analysis",
    "autoregressive",
    "errors",
    "estimators",
    "exact",
    "flows",
    "load_config",
    "observables",
    "runs",
    "samplers",
    "train",
    "wilson",
]


def __getattr__(name: str) -> Any:
    """Load a part at its first use (PEP 562): the command line answers `--help` without PyTorch."""
    if name in _MODULES:
        return import_module(f"latflow.{name}")
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'latflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
