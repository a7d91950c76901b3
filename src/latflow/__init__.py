"""latflow: sample lattice field theories with neural networks, and prove that the numbers are right.

>>> import latflow as lf
>>> lf.actions.Phi4((8, 8), m2=-4.0, lam=8.0)
Phi4(lattice=(8, 8), m2=-4.0, lam=8.0)

The parts are loaded when they are first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latflow.version import __version__

if TYPE_CHECKING:
    from latflow import (
        analysis,
        densities,
        ensembles,
        errors,
        estimators,
        exact,
        fields,
        observables,
        runs,
        samplers,
        wilson,
    )
    from latflow import theories as actions
    from latflow.config import load_config
    from latflow.densities import autoregressive, flows, multilevel
    from latflow.exports import export
    from latflow.runs import Run
    from latflow.training import train
    from latflow.workflow import complete, judge

_MODULES = {
    "actions": "latflow.theories",
    "analysis": "latflow.analysis",
    "autoregressive": "latflow.densities.autoregressive",
    "config": "latflow.config",
    "densities": "latflow.densities",
    "ensembles": "latflow.ensembles",
    "errors": "latflow.errors",
    "estimators": "latflow.estimators",
    "exact": "latflow.exact",
    "fields": "latflow.fields",
    "flows": "latflow.densities.flows",
    "multilevel": "latflow.densities.multilevel",
    "observables": "latflow.observables",
    "runs": "latflow.runs",
    "samplers": "latflow.samplers",
    "training": "latflow.training",
    "validation": "latflow.validation",
    "wilson": "latflow.wilson",
}
_FUNCTIONS = {
    "Run": "latflow.runs",
    "complete": "latflow.workflow",
    "judge": "latflow.workflow",
    "export": "latflow.exports",
    "load_config": "latflow.config",
    "train": "latflow.training",
}

__all__ = [
    "Run",
    "__version__",
    "actions",
    "analysis",
    "autoregressive",
    "complete",
    "densities",
    "ensembles",
    "errors",
    "estimators",
    "exact",
    "export",
    "fields",
    "flows",
    "judge",
    "load_config",
    "multilevel",
    "observables",
    "runs",
    "samplers",
    "train",
    "wilson",
]


def __getattr__(name: str) -> Any:
    """Load a part at its first use (PEP 562): the command line answers `--help` without PyTorch."""
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'latflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
