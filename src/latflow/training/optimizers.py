"""Optimisers: those of `torch.optim` by name, or any other by what makes it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""Makes an optimiser of a list of parameters, of `lr`, and of options by name, as the classes of torch do."""


def optimizer_names() -> list[str]:
    """Those of `torch.optim` that a step of training can drive, in lower case."""
    return sorted(_named())


def make_optimizer(
    optimizer: str | OptimizerFactory,
    parameters: Sequence[nn.Parameter] | Sequence[list[nn.Parameter]],
    learning_rate: float,
    options: Mapping[str, Any],
) -> torch.optim.Optimizer:
    """The optimiser of these parameters.

    Args:
        optimizer: a name, or what makes one.
        parameters: to be trained, or several groups of them.
        learning_rate: at the start; the trainer sets it anew before every step.
        options: of the optimiser, such as betas and weight_decay; the others are as torch has them.

    Raises:
        ValueError: for an unknown name or option, a value that the optimiser refuses, and one that must
            evaluate the loss again within its step, such as L-BFGS.
    """
    factory: Any = _named().get(optimizer.lower()) if isinstance(optimizer, str) else optimizer
    if factory is None:
        raise ValueError(f"expected optimizer {', '.join(optimizer_names())}, got {optimizer!r}")
    try:
        groups = [{"params": one} if isinstance(one, list) else one for one in parameters]
        made = factory(groups, lr=learning_rate, **options)
    except TypeError as error:
        legal = ", ".join(
            name for name in inspect.signature(factory).parameters if name not in ("params", "lr")
        )
        raise ValueError(f"expected options of the optimizer out of {legal}, got {dict(options)}") from error
    except (LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"expected options that the optimizer takes, got {dict(options)}: {error}"
        ) from error
    if _needs_closure(type(made)):
        raise ValueError(
            f"expected an optimizer whose step takes the gradient as it is, got {type(made).__name__}, which "
            "evaluates the loss again"
        )
    return made


def grouped(density: nn.Module, factors: Mapping[str, float]) -> dict[float, list[nn.Parameter]]:
    """The parameters that are trained, by the factor of their learning rate.

    Raises:
        ValueError: for a factor that is not positive, and for a beginning that no name has.
    """
    names = [name for name, parameter in density.named_parameters() if parameter.requires_grad]
    for beginning, factor in factors.items():
        if not factor > 0 or not any(name.startswith(beginning) for name in names):
            raise ValueError(
                f"expected positive factors by beginnings of the names {', '.join(names)}, got "
                f"{beginning} = {factor}"
            )
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in density.named_parameters():
        if parameter.requires_grad:
            fitting = [beginning for beginning in factors if name.startswith(beginning)]
            groups.setdefault(factors[max(fitting, key=len)] if fitting else 1.0, []).append(parameter)
    return groups


def _named() -> dict[str, type[torch.optim.Optimizer]]:
    found = {}
    for name, value in vars(torch.optim).items():
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and not _needs_closure(value):
            found[name.lower()] = value
    return {name: value for name, value in found.items() if value is not torch.optim.Optimizer}


def _needs_closure(kind: type[torch.optim.Optimizer]) -> bool:
    closure = inspect.signature(kind.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
