"""Validation: a run against exact results, an established sampler, and itself."""

from latflow.validation.checks import Check, flow_checks
from latflow.validation.drift import drift_checks
from latflow.validation.known import known, magnetization_distribution
from latflow.validation.names import BESIDE, CHAINS, MODELS, Names, names_of
from latflow.validation.networks import network_checks
from latflow.validation.phases import phase_checks
from latflow.validation.quenched import MIN_EFFECTIVE_DRAWS, quenched_draws
from latflow.validation.sectors import sector_checks
from latflow.validation.table import MAX_PULL, PAIRS, Row, sign_of, table
from latflow.validation.verdict import PARETO_WARNING, Validation, validate

__all__ = [
    "BESIDE",
    "CHAINS",
    "MAX_PULL",
    "MIN_EFFECTIVE_DRAWS",
    "MODELS",
    "PAIRS",
    "PARETO_WARNING",
    "Check",
    "Names",
    "Row",
    "Validation",
    "drift_checks",
    "flow_checks",
    "known",
    "magnetization_distribution",
    "names_of",
    "network_checks",
    "phase_checks",
    "quenched_draws",
    "sector_checks",
    "sign_of",
    "table",
    "validate",
]
