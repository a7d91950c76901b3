"""A look at a theory before anything is paid for: what it computes of a few configurations."""

import torch
from torch import Generator, Tensor

from latflow.errors import ConfigError
from latflow.theories import Action

_CONFIGURATIONS = 3


@torch.no_grad()
def try_out(action: Action) -> None:
    """Evaluate action, force and observables once, where chains of this kind of field start.

    A defect in the code of a theory is told here, before there is a folder, not after an hour of training.

    Raises:
        ConfigError: for results of another shape than one for each configuration, and for an action or a
            force that is not finite. What the code of the theory raises itself is raised as it is.
    """
    generator = Generator().manual_seed(0)
    x = action.kind.start(action.lattice, _CONFIGURATIONS, generator, torch.float64)
    try:
        action.check(x)
    except ValueError as error:
        raise ConfigError(
            f"action: the start of its kind of field, {action.kind}, does not fit: {error}"
        ) from error
    value = _checked("the action", action(x))
    if value.ndim > 1:
        raise ConfigError(
            f"action: expected one number for each configuration, got shape {tuple(value.shape)}"
        )
    _finite("the action", value)
    if action.kind.manifold is not None:
        expected = (len(x), *action.kind.manifold.tangent_shape(tuple(x.shape[1:])))
        force = _checked("the force", action.force(x))
        if tuple(force.shape) != expected:
            raise ConfigError(f"action: expected a force of shape {expected}, got {tuple(force.shape)}")
        _finite("the force", force)
    for observable in action.observables:
        if observable.function is not None:
            found = observable.function(x)
            values = found[observable.name] if isinstance(found, dict) else found
            _checked(f"the observable {observable.name}", values)


def _checked(what: str, values: object) -> Tensor:
    if not isinstance(values, Tensor) or values.shape[:1] != (_CONFIGURATIONS,):
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ConfigError(
            f"action: expected {what} as a tensor with an entry for each configuration, "
            f"({_CONFIGURATIONS}, …) for {_CONFIGURATIONS} of them, got {got}"
        )
    return values


def _finite(what: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ConfigError(
            f"action: expected {what} to be finite where chains start, got {values.flatten()[:3].tolist()}"
        )
