"""What samplers record of a theory."""

from typing import Protocol, runtime_checkable

from latflow.observables.base import Observable, Observe, observing


@runtime_checkable
@runtime_checkable
class Observed(Protocol):
    """A theory, as far as recording knows it."""

    @property
    def observables(self) -> tuple[Observable, ...]:
        """All that is recorded and tabled of it."""
        ...


def recorded(action: Observed) -> Observe:
    """The function of the field that samplers record: the action, observables of its kind, and its own."""
    return observing(action.observables)
