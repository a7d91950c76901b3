"""Validation: a run against exact results, an established sampler, and itself."""

from latflow.validation.checks import Check
from latflow.validation.comparison import Comparison, Cost, compare
from latflow.validation.density import density_checks
from latflow.validation.doubts import FEWEST, PARETO_LIMIT
from latflow.validation.drift import drift_checks
from latflow.validation.evidence import Evidence, MarkovChain
from latflow.validation.judgement import Judgement, judge
from latflow.validation.known import known
from latflow.validation.neighbour import MIN_EFFECTIVE_DRAWS, neighbour_draws
from latflow.validation.reweighting import AtCouplings, at_couplings
from latflow.validation.sectors import sector_checks
from latflow.validation.signs import sign_checks
from latflow.validation.table import MAX_PULL, Row, table
from latflow.validation.verdict import Validation, validate, validated
from latflow.validation.ways import WAYS, Way, all_ways, measured
from latflow.validation.words import ChainWords, chain_words

__all__ = [
    "FEWEST",
    "MAX_PULL",
    "MIN_EFFECTIVE_DRAWS",
    "PARETO_LIMIT",
    "WAYS",
    "AtCouplings",
    "ChainWords",
    "Check",
    "Comparison",
    "Cost",
    "Evidence",
    "Judgement",
    "MarkovChain",
    "Row",
    "Validation",
    "Way",
    "all_ways",
    "at_couplings",
    "chain_words",
    "compare",
    "density_checks",
    "drift_checks",
    "judge",
    "known",
    "measured",
    "neighbour_draws",
    "sector_checks",
    "sign_checks",
    "table",
    "validate",
    "validated",
]
