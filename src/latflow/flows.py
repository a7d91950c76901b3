"""The flows, under the name by which they are used: `from latflow.flows import affine_flow`."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latflow.densities.flows import *  # noqa: F403

sys.modules[__name__] = import_module("latflow.densities.flows")
