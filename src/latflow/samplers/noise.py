"""The random numbers of trajectories, by name."""

import torch
from torch import Generator, Tensor

from latflow.types import Field

NOISE = ("normal", "uniform", "jitter")
"""For the momenta, the decisions, and the step sizes."""


def blank(x: Field, n_steps: int, *, jitter: bool) -> dict[str, Tensor]:
    """Memory for the random numbers of some steps of the chains x, (step, chain, …) each.

    The uniform ones have float64's precision, jitter comes if it is wanted, (step, chain, 1, …).
    """
    chains = x.shape[0]
    noise = {
        "normal": x.new_empty(n_steps, *x.shape),
        "uniform": x.new_empty(n_steps, chains, dtype=torch.float64),
    }
    if jitter:
        noise["jitter"] = x.new_empty(n_steps, chains, *[1] * (x.ndim - 1))
    return noise


def drawn(x: Field, n_steps: int, generator: Generator, *, jitter: bool) -> dict[str, Tensor]:
    """Random numbers as `blank`, drawn one step after the other however many are wanted at once."""
    noise = blank(x, n_steps, jitter=jitter)
    for numbers in zip(*(values.unbind() for values in noise.values()), strict=True):
        numbers[0].normal_(generator=generator)
        for uniform in numbers[1:]:
            uniform.uniform_(generator=generator)
    return noise
