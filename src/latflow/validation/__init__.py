"""Validation: a run against exact results, HMC, and itself."""

from latflow.validation.checks import Check, flow_checks
from latflow.validation.known import known
from latflow.validation.table import MAX_PULL, Row, table
from latflow.validation.verdict import PARETO_WARNING, Validation, validate

__all__ = [
    "MAX_PULL",
    "PARETO_WARNING",
    "Check",
    "Row",
    "Validation",
    "flow_checks",
    "known",
    "table",
    "validate",
]
