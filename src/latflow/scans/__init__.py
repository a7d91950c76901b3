"""Scans: many runs from one configuration with lists, and what they have found together."""

from latflow.scans.findings import Findings, findings
from latflow.scans.folder import SCAN, ScanFolder, ScannedRun, is_scan
from latflow.scans.groups import Agreement, Group

__all__ = ["SCAN", "Agreement", "Findings", "Group", "ScanFolder", "ScannedRun", "findings", "is_scan"]
