"""Densities of two angles, bilinear between the points of a grid, and the maps from uniform angles to them.

Both are in closed form: the distribution of the first angle is quadratic between points, and so is that of
the second given the first.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.types import LogProb

Densities = Float[Tensor, "batch grid grid"]
"""At the angles −π + 2πi/G, up to a factor."""

Pairs = Float[Tensor, "batch 2"]
_TURN = 2 * math.pi


def bilinear_from_uniform(density: Densities, angles: Pairs) -> tuple[Pairs, LogProb]:
    """Angles with the density where uniform ones are given, and log of (2π)² times the density there."""
    share = angles / _TURN + 0.5
    first_cell, first = _drawn(density.mean(2), share[:, 0])
    row = _between(density, first_cell, first)
    second_cell, second = _drawn(row, share[:, 1])
    cells, places = torch.stack((first_cell, second_cell), 1), torch.stack((first, second), 1)
    new = (cells + places) * (_TURN / density.shape[-1]) - math.pi
    return new, _log_density(density, row, second_cell, second)


def bilinear_to_uniform(density: Densities, angles: Pairs) -> tuple[Pairs, LogProb]:
    """The way back, and log of (2π)² times the density at the given angles."""
    place = (angles / _TURN + 0.5) * density.shape[-1]
    cells = place.detach().floor().long().clamp(0, density.shape[-1] - 1)
    places = place - cells
    row = _between(density, cells[:, 0], places[:, 0])
    first = _distribution(density.mean(2), cells[:, 0], places[:, 0])
    second = _distribution(row, cells[:, 1], places[:, 1])
    uniform = (torch.stack((first, second), 1) - 0.5) * _TURN
    return uniform, _log_density(density, row, cells[:, 1], places[:, 1])


def _log_density(density: Densities, row: Tensor, cell: Tensor, place: Tensor) -> LogProb:
    low, high = _ends(row, cell)
    return (low + place * (high - low)).log() - density.mean((1, 2)).log()


def _between(density: Densities, cell: Tensor, place: Tensor) -> Float[Tensor, "batch grid"]:
    """The density along the second angle at one place of the first."""
    rows = torch.arange(len(cell), device=cell.device)
    low, high = density[rows, cell], density[rows, (cell + 1) % density.shape[1]]
    return low + place[:, None] * (high - low)


def _ends(values: Float[Tensor, "batch grid"], cell: Tensor) -> tuple[Tensor, Tensor]:
    next_cell = (cell + 1) % values.shape[1]
    return values.gather(1, cell[:, None])[:, 0], values.gather(1, next_cell[:, None])[:, 0]


def _masses(values: Float[Tensor, "batch grid"]) -> tuple[Tensor, Tensor]:
    """Of each cell as a share of all, and of all the cells before."""
    mass = (values + values.roll(-1, 1)) / 2
    mass = mass / mass.sum(1, keepdim=True)
    return mass, mass.cumsum(1) - mass


def _drawn(values: Float[Tensor, "batch grid"], share: Tensor) -> tuple[Tensor, Tensor]:
    """The cell, and the place in it from 0 to 1, at which the distribution has a given share."""
    mass, before = _masses(values)
    with torch.no_grad():
        cell = (before <= share[:, None]).sum(1).clamp(min=1) - 1
    own, past = mass.gather(1, cell[:, None])[:, 0], before.gather(1, cell[:, None])[:, 0]
    rest = ((share - past) / own).clamp(0, 1)  # of the mass of the cell
    low, high = _ends(values, cell)
    # low t + (high − low) t²/2 = rest (low + high)/2
    root = torch.sqrt(low * low + (high * high - low * low) * rest)
    return cell, rest * (low + high) / (low + root)


def _distribution(values: Float[Tensor, "batch grid"], cell: Tensor, place: Tensor) -> Tensor:
    """The share up to a place in a cell."""
    mass, before = _masses(values)
    own, past = mass.gather(1, cell[:, None])[:, 0], before.gather(1, cell[:, None])[:, 0]
    low, high = _ends(values, cell)
    return past + own * place * (2 * low + (high - low) * place) / (low + high)
