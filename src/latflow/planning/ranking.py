"""Rows of a plan: what each method costs to the wished error, and in which order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from latflow.analysis import Measurement, break_even, product, total
from latflow.planning.methods import Method
from latflow.planning.pilot import LONG, Finding, Pilot
from latflow.planning.trust import doubts

_TAUS = 10
"""How many τ of thermalisation a run is given."""
_LEAST_STEPS = 20
"""Of any run."""


@dataclass(frozen=True)
class Row:
    """What a method costs.

    Attributes:
        title: of the method.
        method: it.
        model: the run whose model is drawn from; None without.
        weighted: whether averages are those of weighted draws, and not of the chain.
        average: of the observable by its pilot; None where that has none.
        tau: τ of it, in steps; None of independent draws.
        step: seconds of a step of one chain, by the clock of the plan.
        clock: the same by the clock on the wall.
        acceptance: of the chain.
        ess: of the model's draws.
        independent: how many independent numbers the error needs.
        numbers: how many of this chain.
        steps: of each chain, without thermalisation; 0 where it is not known.
        chains: that run side by side.
        thermalisation: steps of each chain that come first.
        cost: seconds to the error from now on: steps, thermalisation, tuning.
        training: seconds that were spent on the model before; 0 without.
        break_even: from how many independent numbers that has paid beside the best without; None without.
        memory: MiB at the peak of the pilot, of the process or on a GPU of its tensors; None where unknown.
        lower: whether the pilot was too short, so that the cost is at least this.
        doubts: why it cannot be trusted.
        pilot_steps: of each chain in the pilot.
    """

    title: str
    method: Method
    model: str | None
    weighted: bool
    average: Measurement | None
    tau: Measurement | None
    step: Measurement
    clock: float
    acceptance: float | None
    ess: float | None
    independent: Measurement | None
    numbers: Measurement | None
    steps: int
    chains: int
    thermalisation: int
    cost: Measurement
    training: float
    break_even: float | None
    memory: float | None
    lower: bool
    doubts: tuple[str, ...]
    pilot_steps: int

    @property
    def sound(self) -> bool:
        """Whether it can be recommended."""
        return not self.doubts and not self.lower and math.isfinite(self.cost.value)

    @property
    def with_training(self) -> Measurement:
        """The cost with what the training has taken."""
        return Measurement(self.cost.value + self.training, self.cost.error)

    def expected_error(self, wished: float) -> float:
        """What the steps should reach: the wished error, or less where a run is never so short."""
        if self.numbers is None:
            return math.nan
        return wished * math.sqrt(self.numbers.value / (self.steps * self.chains))

    @property
    def price(self) -> float:
        """Seconds of one independent number, without what comes before the chain."""
        if self.independent is None or self.numbers is None:
            return math.nan
        return self.step.value * self.numbers.value / self.independent.value


def rows(pilot: Pilot) -> list[Row]:
    """Of its chain, and of its weighted draws where it has them."""
    found = [pilot.chain] if pilot.weights is None else [pilot.chain, pilot.weights]
    return [_row(pilot, one) for one in found]


def ranked(found: Sequence[Row]) -> list[Row]:
    """Sorted by cost, what is sound first, with what their training has paid."""
    without = [row for row in found if row.sound and not row.training]
    best = min(without, key=lambda row: row.cost.value, default=None)
    told = [
        replace(row, break_even=break_even(row.training, row.price, best.price))
        if row.training and best is not None and math.isfinite(row.price)
        else row
        for row in found
    ]
    return sorted(told, key=lambda row: (not row.sound, row.cost.value))


def _row(pilot: Pilot, finding: Finding) -> Row:
    question, method = pilot.question, pilot.method
    chains, need = method.length.chains, finding.need(question)
    trained = method.trained
    whole = pilot.step_seconds
    step = Measurement(whole.value / chains, whole.error / chains)
    tau = None if finding.average is None else finding.average.tau_int
    steps, thermalisation, cost = 0, 0, Measurement(math.inf, 0.0)
    if need is not None:
        least = _LEAST_STEPS if tau is None else max(_LEAST_STEPS, math.ceil(LONG * tau))
        thermalisation = 0 if tau is None else math.ceil(_TAUS * tau)
        wanted = need.numbers.value / chains
        steps = max(math.ceil(wanted), least)
        # what is floored does not vary
        numbers = need.numbers if wanted >= least else Measurement(float(steps * chains), 0.0)
        before = product(Measurement(float(thermalisation * chains), 0.0), step)
        cost = total(product(numbers, step), before, Measurement(pilot.setup, 0.0))
    average = finding.average
    told = None
    if average is not None and average.tau_int is not None:
        told = Measurement(average.tau_int, average.tau_int_error or 0.0)
    return Row(
        title=f"{method.title}, weights" if finding.weighted else method.title,
        method=method,
        model=None if trained is None else trained.name,
        weighted=finding.weighted,
        average=average,
        tau=told,
        step=step,
        clock=pilot.clock_seconds / chains,
        acceptance=None if finding.weighted else pilot.acceptance,
        ess=pilot.ess,
        independent=None if need is None else need.independent,
        numbers=None if need is None else need.numbers,
        steps=steps,
        chains=chains,
        thermalisation=thermalisation,
        cost=cost,
        training=0.0 if trained is None else trained.seconds,
        break_even=None,
        memory=pilot.memory,
        lower=not finding.known,
        doubts=doubts(pilot, finding),
        pilot_steps=pilot.steps,
    )


def as_dict(row: Row) -> dict[str, Any]:
    """As a file of JSON holds it."""

    def number(one: Measurement | None) -> dict[str, float] | None:
        return None if one is None else {"value": one.value, "error": one.error}

    told = {name: value for name, value in vars(row).items() if name != "method"}
    told |= {name: number(value) for name, value in told.items() if isinstance(value, Measurement)}
    return told | {"doubts": list(row.doubts), "sound": row.sound, "with_training": number(row.with_training)}
