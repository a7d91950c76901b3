"""The theories, under the name by which they are used: `from latflow.actions import Phi4`."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latflow.theories import *  # noqa: F403

sys.modules[__name__] = import_module("latflow.theories")
