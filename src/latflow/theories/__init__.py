"""Theories: an action each, over `Action`, in a folder with its exact results and presets.

What the folders define is found when it is first named: `theories.Phi4`, or `latflow.actions.Phi4`.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latflow.theories.base import Action, Evaluation, ExactSampler, Scaled, Sum, Words
from latflow.theories.bonds import RandomCouplings
from latflow.theories.neighbours import NearestNeighbours
from latflow.theories.sites import LineWeight, SpinWeight
from latflow.theories.vectors import AngleWeight, StateWeight

if TYPE_CHECKING:
    from latflow.theories.exponential import Exponential as Exponential
    from latflow.theories.ising import Ising as Ising
    from latflow.theories.ising import ising_of as ising_of
    from latflow.theories.phi4 import HoppingPhi4 as HoppingPhi4
    from latflow.theories.phi4 import Phi4 as Phi4
    from latflow.theories.schwinger import Schwinger as Schwinger
    from latflow.theories.schwinger import WilsonFermions as WilsonFermions
    from latflow.theories.schwinger import fermions_of as fermions_of
    from latflow.theories.u1 import U1Gauge as U1Gauge
    from latflow.theories.u1 import gauge_transformed as gauge_transformed
    from latflow.theories.u1 import plaquette_angles as plaquette_angles

__all__ = [
    "Action",
    "AngleWeight",
    "Evaluation",
    "ExactSampler",
    "LineWeight",
    "NearestNeighbours",
    "RandomCouplings",
    "Scaled",
    "SpinWeight",
    "StateWeight",
    "Sum",
    "Words",
]


def folders() -> list[str]:
    """The names of the theories' folders."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py"))


def __getattr__(name: str) -> Any:
    """What one of the folders defines."""
    if not name.startswith("_"):
        for folder in folders():
            module = import_module(f"{__name__}.{folder}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for f in folders() for name in import_module(f"{__name__}.{f}").__all__)})
