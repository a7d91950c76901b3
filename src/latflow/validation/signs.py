"""Whether both values of what is one of ±1 by a symmetry come up equally often."""

from collections.abc import Iterator, Sequence

from latflow.theories import Action
from latflow.validation.checks import Check
from latflow.validation.table import MAX_PULL
from latflow.validation.ways import Way


def sign_checks(action: Action, ways: Sequence[Way]) -> Iterator[Check]:
    """For an action with S(−x) = S(x), both signs of its balanced observables have equal probability.

    Args:
        action: the theory; there is no check unless it is symmetric.
        ways: to know its observables, of which those are asked that rest on draws.
    """
    if not action.z2_symmetric:
        return
    for observable in (one for one in action.observables if one.balanced):
        symbol = observable.in_words
        for way in ways:
            sign = way.measurements.get(observable.name)
            if sign is None or not way.sampled:
                continue
            share, balanced = 50 * (1 + sign.value), abs(sign.pull(0.0)) <= MAX_PULL
            detail = f"{share:.1f}% of {way.sentence} have {symbol} > 0, exact 50%"
            if not balanced:
                detail += f": one sign of {symbol} is missing or under-sampled"
            yield Check(f"signs of {symbol} balance in {way.sentence}", balanced, detail)
