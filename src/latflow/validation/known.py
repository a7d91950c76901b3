"""What is known of a theory before it is sampled: symmetries, closed forms, and given references."""

from collections.abc import Mapping

from latflow.measurement import Measurement
from latflow.theories import Action


def known(action: Action, reference: Mapping[str, str] = {}) -> dict[str, Measurement]:
    """What is known of a theory, by the names of its observables.

    Averages that change their sign under x → −x are zero where S(−x) = S(x), whatever rounding makes of them;
    the reference overrides everything.

    Args:
        action: the theory.
        reference: numbers from elsewhere, as "value(error)".

    Raises:
        ValueError: when a reference is not a number with its error.
    """
    zero = Measurement(0.0, 0.0)
    odd = {observable.name: zero for observable in action.observables if observable.odd}
    given = {name: Measurement.parse(text) for name, text in reference.items()}
    return dict(action.known()) | (odd if action.z2_symmetric else {}) | given
