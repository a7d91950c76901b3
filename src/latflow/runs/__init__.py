"""Runs: folders in which training, chains and results survive whatever stops the process."""

from latflow.runs.growth import BlockReport, ChainName, Group
from latflow.runs.interrupts import Interrupted
from latflow.runs.run import Run

__all__ = ["BlockReport", "ChainName", "Group", "Interrupted", "Run"]
