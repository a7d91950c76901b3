"""The verdict on a run, with the diagnostics of its weights and chains."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Generator

from latflow.analysis import (
    acceptance,
    effective_sample_size,
    expected_acceptance,
    free_energy,
    largest_weight_share,
    longest_rejection_run,
    pareto_tail_index,
    tunnelling_rate,
    variational_free_energy,
)
from latflow.autoregressive import SpinNetwork
from latflow.validation.checks import Check, flow_checks
from latflow.validation.drift import drift_checks
from latflow.validation.known import known
from latflow.validation.names import Names, names_of
from latflow.validation.networks import network_checks
from latflow.validation.phases import phase_checks
from latflow.validation.quenched import quenched_draws, quenched_notes
from latflow.validation.sectors import sector_checks
from latflow.validation.table import MAX_PULL, Row, Series, table

if TYPE_CHECKING:
    from latflow.runs import Run

_CHARGE, _MAGNETIZATION = "topological_charge", "magnetization"

PARETO_WARNING = 0.7
"""Above this tail index of the weights, averages over the flow's draws cannot be trusted."""


@dataclass(frozen=True)
class Validation:
    """The verdict: rows of observables, checks, diagnostics of the weights and chains, words to it.

    Warnings say why numbers may not be trusted, notes what the table holds and what it does not; names are
    what its columns are called in words.
    """

    rows: list[Row]
    checks: list[Check]
    diagnostics: dict[str, float]
    warnings: list[str]
    notes: list[str] = field(default_factory=list)
    names: Names = Names()  # noqa: RUF009 (frozen)

    @property
    def passed(self) -> bool:
        """Whether every pull is at most `MAX_PULL` and every check holds."""
        return all(row.passed for row in self.rows) and all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain numbers and strings, for a JSON file."""
        rows = [asdict(row) | {"label": row.label, "passed": row.passed} for row in self.rows]
        return {
            "rows": rows,
            "checks": [asdict(check) for check in self.checks],
            "diagnostics": self.diagnostics,
            "warnings": self.warnings,
            "notes": self.notes,
            "names": self.names.words(),
            "passed": self.passed,
        }


def validate(run: "Run") -> Validation:
    """Hold everything that a run has found against everything else that is known.

    Args:
        run: with samples of the flow, of the chain beside it, or of both.

    Raises:
        ValueError: when a series is too short for an error, naming how many steps it needs.
    """
    names = names_of(run.action, run.config)
    chain, draws, beside = (run.series(group) for group in ("flow", "proposals", names.group))
    finite, n_bad = _finite_draws(draws)
    quenched, found = quenched_draws(run.action, Generator().manual_seed(run.config.seed))
    rows = table(run.action, chain, finite, beside, known(run.action, run.config.reference), quenched)
    density, action = run.flow(), run.action
    spins = isinstance(density, SpinNetwork)
    checks = list(network_checks(density, action) if spins else flow_checks(density, action))
    if n_bad:
        checks.append(
            Check("finite log-weights", False, f"{n_bad} draws have a log-weight that is not finite")
        )
    if action.z2_symmetric:
        checks += _sign_checks(rows, names)
    chains = {f"the {names.mover}'s chain": chain, names.sentence: beside}
    begun = (run.config.sampling.thermalisation, run.config.beside.thermalisation)
    checks += drift_checks(
        {
            name: (part["action"], steps)
            for (name, part), steps in zip(chains.items(), begun, strict=True)
            if part
        }
    )
    for series, check in ((_MAGNETIZATION, phase_checks), (_CHARGE, sector_checks)):
        checks += check(action, {name: part[series] for name, part in chains.items() if series in part})
    diagnostics = _diagnostics(chain, finite, beside) | found
    notes = _notes(chain, names) + quenched_notes(found)
    return Validation(rows, checks, diagnostics, _warnings(diagnostics, names), notes, names)


def _sign_checks(rows: list[Row], names: Names = Names()) -> list[Check]:  # noqa: B008 (frozen)
    """For an action with S(−φ) = S(φ), positive and negative M have equal probability."""
    signs = next((row for row in rows if row.name == "sign_of_magnetization"), None)
    if signs is None:
        return []
    ways = {
        f"the {names.mover}'s chain": signs.flow,
        f"the {names.model}'s weighted draws": signs.nis,
        names.sentence: signs.hmc or signs.classical,
    }
    checks = []
    for way, sign in ways.items():
        if sign is not None:
            share = 50 * (1 + sign.value)
            balanced = abs(sign.pull(0.0)) <= MAX_PULL
            detail = f"{share:.1f}% of {way} have M > 0, exact 50%"
            if not balanced:
                detail += ": one sign of the magnetisation is missing or under-sampled"
            checks.append(Check(f"signs of M balance in {way}", balanced, detail))
    return checks


def _finite_draws(draws: Series) -> tuple[Series, int]:
    """The draws as flat series without those whose log-weight is nan or +inf, and how many those are."""
    if not draws:
        return {}, 0
    log_weight = draws["log_weight"].reshape(-1)
    good = ~(np.isnan(log_weight) | np.isposinf(log_weight))
    flat = {name: values.reshape(-1, *values.shape[2:])[good] for name, values in draws.items()}
    return flat, int((~good).sum())


def _diagnostics(chain: Series, draws: Series, beside: Series) -> dict[str, float]:
    found: dict[str, float] = {}
    if draws:
        log_weight = draws["log_weight"]
        f_q, f = variational_free_energy(log_weight), free_energy(log_weight)
        found |= {
            "draws": float(log_weight.size),
            "ess": effective_sample_size(log_weight),
            "expected_acceptance": expected_acceptance(log_weight),
            "largest_weight_share": largest_weight_share(log_weight),
            "f_q": f_q.value,
            "f_q_error": f_q.error,
            "free_energy": f.value,
            "free_energy_error": f.error,
        }
        if log_weight.size >= 25:
            found["pareto_k"] = pareto_tail_index(log_weight)
    if chain:
        found["acceptance"] = acceptance(chain["accepted"]).value
        found |= _of_kernels(chain)
        found["longest_rejection_run"] = float(longest_rejection_run(chain["accepted"]))
    if "delta_h" in beside:
        found["hmc_acceptance"] = acceptance(beside["accepted"]).value
        found["hmc_exp_minus_delta_h"] = _exp_minus(beside["delta_h"])
    elif beside:
        found["classical_changed"] = float(beside["accepted"].mean())
    for prefix, part in (("", chain), ("hmc_", beside)):
        if _CHARGE in part:
            rate = tunnelling_rate(part[_CHARGE])
            found |= {f"{prefix}tunnelling_rate": rate.value, f"{prefix}tunnelling_rate_error": rate.error}
    return found


def _of_kernels(chain: Series) -> dict[str, float]:
    """The acceptance of each kernel of a cycle, and ⟨exp(−ΔH)⟩ of each that makes trajectories."""
    found = {}
    for name, values in chain.items():
        what, _, kernel = name.partition("_")
        if what == "accepted" and kernel:
            found[f"acceptance_{kernel}"] = float(values.mean())
        elif name.startswith("delta_h"):
            found[name.replace("delta_h", "exp_minus_delta_h")] = _exp_minus(values)
    return found


def _exp_minus(delta_h: np.ndarray) -> float:
    return float(np.exp(-np.clip(delta_h, -50, None)).mean())


def _notes(chain: Series, names: Names) -> list[str]:
    """In words what moved the chain of the model, where that is not Metropolis with its draws alone."""
    if not chain or names.kernels == Names.kernels:
        return []
    notes = [f"A step of the {names.chain} is {names.chain_step}."]
    if not names.proposes:
        reason = names.without_weights
        notes.append(f"{reason[0].upper()}{reason[1:]}: the column NIS, log Z and the ESS are left out.")
    return notes


def _warnings(diagnostics: dict[str, float], names: Names = Names()) -> list[str]:  # noqa: B008 (frozen)
    warnings = []
    if diagnostics.get("pareto_k", 0.0) > PARETO_WARNING:
        warnings.append(
            f"The Pareto tail index of the weights is {diagnostics['pareto_k']:.2f}, above {PARETO_WARNING}: "
            f"the {names.model} misses part of the target, and averages over its draws cannot be trusted."
        )
    if diagnostics.get("largest_weight_share", 0.0) > 0.1:
        share = diagnostics["largest_weight_share"]
        warnings.append(f"A single draw carries {share:.0%} of all weight: the errors are not reliable.")
    return warnings
