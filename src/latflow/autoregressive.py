"""The networks, under the name by which they are used: `from latflow.autoregressive import dense_spins`."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latflow.densities.autoregressive import *  # noqa: F403

sys.modules[__name__] = import_module("latflow.densities.autoregressive")
