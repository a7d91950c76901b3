"""The record of an observable, which recording, summaries, validation, tables and figures read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

Observe = Callable[[Tensor], dict[str, Tensor]]
"""What is recorded of a batch of fields: named tensors, (batch, …) each."""


@dataclass(frozen=True)
class Sectors:
    """Parts of the space of configurations between which a chain may hardly move.

    Attributes:
        title: what they are, as a heading: "topological sectors".
        number: the values of the observable to the number 0, 1, … of their sector, a negative one for none.
        name: of a sector, by its number: "|Q| = 1".
        values: the values of the observable in a sector, where they are few; for their exact probability.
        alike: what takes the same values in sectors that a symmetry relates: how often a chain made
            independent values of it tells how often it could have seen each sector.
        equal: how many sectors there are, where a symmetric action makes all equally probable.
    """

    title: str
    number: Callable[[np.ndarray], np.ndarray]
    name: Callable[[int], str]
    alike: Callable[[np.ndarray], np.ndarray] = np.abs
    values: Callable[[int], Sequence[float]] | None = None
    equal: int | None = None


@dataclass(frozen=True)
class Observable:
    """A number, or several, that every configuration has, or that follows from such numbers.

    What has a `function` is recorded: it is a series of the chain, by its name. What has a `label` is a row
    of the tables. Most observables are both, and only a name, a label and a function need be given; others
    are series alone, from which rows are made, or rows alone, made `of` series.

    Attributes:
        name: of the series, and of the row.
        label: what a table writes; an observable without has no row.
        function: of a batch of configurations, to one number or one array for each, (batch, …); or to several
            such by name. Records that share one function are computed by one call of it.
        axes: names of the axes of an array, such as ("time",) for a correlator.
        of: the series from which a row is made; its own if none.
        each: numbers of each configuration from those series, all of them at once as arrays (steps, …): one
            array or several. The series as they are if None.
        average: function of the averages of these numbers, errors being propagated; if None there is one
            number, and its average is the result.
        estimate: instead of `each` and `average`, a function of the whole sample (`analysis.Sample`) that
            returns a measurement, or None where this sample has none.
        odd: whether S(−x) = S(x) makes its average zero.
        balanced: whether it is one of ±1 by a symmetry, so that both signs are equally probable.
        slow: whether its autocorrelation tells how long a chain must be: drawn, and given as a headline.
        sectors: between whose parts a chain may hardly move.
        quantum: of a count, the least change of the average times the number of configurations: an error is
            then never smaller than that of one count, for what was never seen is not known to be zero.
        rests_on: for an average that a few rare configurations decide, what these contribute at a value of
            it.
        may_be_undefined: whether noise of averages can make it nan, which then does not fail.
        positive: whether it has a row only where the averages of all its numbers are five errors above zero,
            as those must be of which a logarithm is taken. What noise makes of smaller ones lies far from the
            truth in units of its own error.
        reweighted: whether averages are reweighted with the sign of the action, where it has one.
        scaling: the power of L with which it grows at a critical point, where units alone say so: 0 for a
            Binder cumulant, 1 for a correlation length. Divided by it, curves of several lattices cross.
        spacing: the distance of neighbouring values, where they are evenly spaced.
        shown: in which figures it stands: the Monte Carlo "history", the "histogram".
        symbol: in a sentence, "|M|"; the label if empty.
        tex: in a figure, r"$|M|$"; the symbol if empty.
        meaning: a sentence for the caption of its figures.
    """

    name: str
    label: str = ""
    function: Callable[[Any], Tensor | Mapping[str, Tensor]] | None = None
    axes: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    each: Callable[..., Any] | None = None
    average: Callable[..., Any] | None = None
    estimate: Callable[[Any], Any] | None = None
    odd: bool = False
    balanced: bool = False
    slow: bool = False
    sectors: Sectors | None = None
    quantum: float | None = None
    rests_on: Callable[[float], float] | None = None
    may_be_undefined: bool = False
    positive: bool = False
    reweighted: bool = True
    scaling: int | None = None
    spacing: float | None = None
    shown: tuple[Literal["history", "histogram"], ...] = ()
    symbol: str = ""
    tex: str = ""
    meaning: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The series from which its row is made."""
        return self.of or (self.name,)

    @property
    def in_words(self) -> str:
        """In a sentence."""
        return self.symbol or self.label or self.name.replace("_", " ")

    @property
    def in_figures(self) -> str:
        """On an axis."""
        return self.tex or self.in_words


def observing(observables: Sequence[Observable]) -> Observe:
    """The function of the field that samplers record: the series of these observables."""
    recorded = [observable for observable in observables if observable.function is not None]

    def observe(x: Tensor) -> dict[str, Tensor]:
        found: dict[int, Tensor | Mapping[str, Tensor]] = {}
        record: dict[str, Tensor] = {}
        for observable in recorded:
            function = observable.function
            assert function is not None
            if id(function) not in found:
                found[id(function)] = function(x)
            values = found[id(function)]
            record[observable.name] = values[observable.name] if isinstance(values, Mapping) else values
        return record

    return observe
