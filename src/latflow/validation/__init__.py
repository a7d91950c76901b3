"""Validation: a run against exact results, HMC, and itself."""

from latflow.validation.checks import Check, flow_checks
from latflow.validation.known import known
from latflow.validation.quenched import MIN_EFFECTIVE_DRAWS, quenched_draws
from latflow.validation.sectors import sector_checks
from latflow.validation.table import MAX_PULL, PAIRS, Row, sign_of, table
from latflow.validation.verdict import PARETO_WARNING, Validation, validate

__all__ = [
    "MAX_PULL",
    "MIN_EFFECTIVE_DRAWS",
    "PAIRS",
    "PARETO_WARNING",
    "Check",
    "Row",
    "Validation",
    "flow_checks",
    "known",
    "quenched_draws",
    "sector_checks",
    "sign_of",
    "table",
    "validate",
]
