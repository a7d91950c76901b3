"""The verdict on configurations that were made elsewhere."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latflow.config.stages import FEWEST_STEPS
from latflow.ensembles import Ensemble
from latflow.errors import EnsembleError, UnreliableErrorWarning
from latflow.theories import Action
from latflow.validation.copies import copy_checks, moved, numbered
from latflow.validation.couplings import coupling_checks
from latflow.validation.doubts import doubts, undecided
from latflow.validation.drift import drift_checks
from latflow.validation.evidence import Evidence, MarkovChain, measured_series
from latflow.validation.identities import identity_checks
from latflow.validation.reweighting import AtCouplings, at_couplings
from latflow.validation.sectors import sector_checks
from latflow.validation.signs import sign_checks
from latflow.validation.table import table
from latflow.validation.verdict import Validation, of_errors
from latflow.validation.ways import all_ways
from latflow.validation.words import OF_ENSEMBLE

_FEWEST_CHANGES = 25
"""Of a sign that a symmetry balances, from which the weights of both are known to a fifth."""


@dataclass(frozen=True)
class Judgement:
    """An ensemble, what was measured of it, and the verdict.

    Attributes:
        ensemble: the configurations.
        evidence: what was measured of each.
        validation: the verdict.
        reweighted: averages at other couplings.
    """

    ensemble: Ensemble
    evidence: Evidence
    validation: Validation
    reweighted: tuple[AtCouplings, ...] = ()

    @property
    def action(self) -> Action:
        """The theory."""
        return self.evidence.action

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain numbers and strings, with what it is about, for a JSON file."""
        steps, chains = self.ensemble.fields.shape[:2]
        return {
            "ensemble": {
                "path": str(self.ensemble.path),
                "sha256": self.ensemble.digest,
                "steps": steps,
                "chains": chains,
            },
            **self.validation.as_dict(),
            "reweighted": [one.as_dict() for one in self.reweighted],
        }


def judge(
    ensemble: Ensemble,
    action: Action,
    reference: Mapping[str, str] = {},
    couplings: Sequence[Mapping[str, float]] = (),
    seed: int = 0,
) -> Judgement:
    """Hold configurations against everything that is known of the theory that they are said to be of.

    Their averages, with errors by the Γ-method, stand beside exact results; they obey the symmetries of the
    action and its Schwinger–Dyson identities, which need no other simulation; no sector is missing, no start
    is left, no configuration is a copy.

    Args:
        ensemble: the configurations, as `ensembles.read_ensemble` has them.
        action: the theory.
        reference: known numbers by the names of observables, as "value(error)".
        couplings: of the same theory, at which averages are wanted by reweighting.
        seed: of what is random in identities.

    Raises:
        EnsembleError: for chains of fewer than six configurations.
        ValueError: for couplings that the theory does not have, or a reference that is no number with error.
    """
    if len(ensemble.fields) < FEWEST_STEPS:
        raise EnsembleError(
            f"{ensemble.path}: expected at least {FEWEST_STEPS} configurations a chain, got "
            f"{len(ensemble.fields)}: independent ones may stand in one chain"
        )
    numbers = numbered(ensemble.fields)
    series = measured_series(action, ensemble.fields)
    series |= {"accepted": moved(numbers), "field": ensemble.fields.numpy()}
    chain = MarkovChain(OF_ENSEMBLE, series)
    evidence = Evidence(action, reference=reference, seed=seed, ensemble=chain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)  # the verdict holds them all
        validation = _verdict(evidence, ensemble, numbers)
        reweighted = tuple(at_couplings(action, ensemble.fields, series, one) for one in couplings)
    return Judgement(ensemble, evidence, validation, reweighted)


def _verdict(evidence: Evidence, ensemble: Ensemble, numbers: np.ndarray) -> Validation:
    action, fields = evidence.action, ensemble.fields
    tried = all_ways(evidence)
    found = [way for way in tried if way.measurements]
    rows = table(action, found, undecided(evidence, found))
    held = list(identity_checks(action, fields, evidence.seed))
    reasons = list(doubts(evidence, found, rows))
    # of few configurations one sign may be missing by chance
    signs = [check for check in sign_checks(action, found) if check.passed or not reasons]
    checks = [
        *held,
        *coupling_checks(action, fields, evidence.seed),
        *copy_checks(action, fields, numbers),
        *signs,
        *drift_checks(evidence.chains()),
        *sector_checks(action, evidence.chains()),
    ]
    reasons += _rare_changes(evidence)
    if not held and not any(row.pulls for row in rows):
        reasons.append(
            f"Nothing is known that these numbers could be held against: the kind of field {action.kind} has "
            "no identities, and no result is exact; give a [reference]."
        )
    return Validation(
        found,
        rows,
        checks,
        {name: number for way in tried for name, number in way.diagnostics.items()},
        [*ensemble.warnings, *of_errors(rows, found)],
        [note for way in tried for note in way.notes],
        reasons,
    )


def _rare_changes(evidence: Evidence) -> Iterator[str]:
    """Whether signs that a symmetry balances change too rarely to say that it does.

    Chains that start with different signs count as draws of these.
    """
    action, chain = evidence.action, evidence.ensemble
    if chain is None or not action.z2_symmetric:
        return
    for one in (one for one in action.observables if one.balanced):
        signs = np.sign(chain.series[one.needs[0]])
        changes, chains = int((signs[1:] != signs[:-1]).sum()), signs.shape[1]
        starts = chains if len(np.unique(signs[0])) > 1 else 0
        if changes + starts < _FEWEST_CHANGES:
            yield (
                f"The sign of {one.in_words} changes {changes} times in {chains} "
                f"{'chains' if chains > 1 else 'chain'}: what is told of both signs together rests on so few "
                f"changes, expected at least {_FEWEST_CHANGES}."
            )
