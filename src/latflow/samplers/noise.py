"""The random numbers of trajectories, by name."""

import torch
from torch import Generator, Tensor

NOISE = ("normal", "uniform", "jitter")
"""For the momenta, the decisions, and the step sizes."""


def blank(x: Tensor, tangent: tuple[int, ...], n_steps: int, *, jitter: bool) -> dict[str, Tensor]:
    """Memory for the random numbers of some steps of the chains x, (step, chain, …) each.

    The normal ones have the shape of a tangent and are real, the uniform ones have float64's precision;
    jitter comes if it is wanted, (step, chain, 1, …) with the dimensions of tangents.
    """
    chains, real = x.shape[0], x.dtype.to_real()
    noise = {
        "normal": x.new_empty(n_steps, chains, *tangent, dtype=real),
        "uniform": x.new_empty(n_steps, chains, dtype=torch.float64),
    }
    if jitter:
        noise["jitter"] = x.new_empty(n_steps, chains, *[1] * len(tangent), dtype=real)
    return noise


def drawn(
    x: Tensor, tangent: tuple[int, ...], n_steps: int, generator: Generator, *, jitter: bool
) -> dict[str, Tensor]:
    """Random numbers as `blank`, drawn one step after the other however many are wanted at once."""
    noise = blank(x, tangent, n_steps, jitter=jitter)
    for numbers in zip(*(values.unbind() for values in noise.values()), strict=True):
        numbers[0].normal_(generator=generator)
        for uniform in numbers[1:]:
            uniform.uniform_(generator=generator)
    return noise
