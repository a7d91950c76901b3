"""Draws of one real number in any of many fields, by rejection from staircases that are tabulated once."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.errors import LatflowError

Potential = Callable[[Tensor], Tensor]
"""V(x), even."""

Heights = Float[np.ndarray, "cells fine"]

_STEPS = 128
"""Of each staircase: with the cells of h they cost about six draws of a hundred."""

_FINE, _HALVINGS = 1024, 7
"""Cells of x by which steps are found, and how often the range is halved in which their area is sought."""

_MARGIN = 1e-4
"""What is added to the logarithm of a bound: more than rounding does to float32."""


class StaircaseError(LatflowError):
    """A staircase that a density exceeds."""


class Staircases:
    """Draws from p(x) ∝ exp(−V(x) + h x) on |x| ≤ X, for |h| ≤ H.

    The fields h are sorted into cells of width δ around h_k ≥ 0, and those below zero are reflected. A
    staircase of n steps belongs to each cell, of equal probability and of widths w_j, with

        x uniform on a step that is drawn at random,    kept with probability w_j exp(−V(x) + h x − b_k(h))

    where b_k(h) = max_x [−V + h_k x + ½δ |x − m_k| + log w_j] + (h − h_k) m_k bounds the exponent for every h
    of the cell, and m_k = ⟨x⟩ at h_k makes the bound tight. What is drawn is p itself.

    Args:
        potential: V.
        cut: X.
        largest: H.
        typical: about the standard deviation of x, which sets δ.
    """

    def __init__(self, potential: Potential, cut: float, largest: float, typical: float) -> None:
        self.potential: Potential = potential
        self.cut: float = cut
        self.largest: float = largest
        self.cells: int = max(1, round(largest * typical / 0.04))
        self.width: float = largest * (1 + 1e-6) / self.cells  # room for what rounding does to float32
        self._converted: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor, Tensor]] = {}

    def draw(self, h: Float[Tensor, "columns"], generator: Generator) -> Float[Tensor, "columns"]:
        """One x for each h.

        Raises:
            StaircaseError: where a density exceeds its bound, as it does for |h| > H.
        """
        x = torch.empty_like(h)
        left, fields = None, h
        while left is None or len(left):
            proposed, chance = self._proposed(fields, generator)
            uniform = torch.rand(chance.shape, generator=generator, dtype=h.dtype, device=h.device)
            kept = uniform < chance
            if left is None:
                x, left = proposed, (~kept).nonzero()[:, 0]
            else:
                x[left] = proposed
                left = left[~kept]
            fields = h[left]
        return x

    def _proposed(self, h: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """x of a step drawn at random, and the probability with which it is kept."""
        edges, means, bounds = self._like(h)
        size = h.abs()
        cell = (size * (1 / self.width)).long().clamp_(max=self.cells - 1)
        # in float64, whose digits are left for the place on the step
        place = torch.rand(h.shape, generator=generator, dtype=torch.float64, device=h.device).mul_(_STEPS)
        step = place.long()
        at = step + cell * (_STEPS + 1)
        low = edges.index_select(0, at)
        wide = edges.index_select(0, at.add_(1)).sub_(low)
        x = place.sub_(step).to(h.dtype).mul_(wide).add_(low)
        # h x − (h − h_k) m_k without the difference of two large numbers
        middle = cell.to(h.dtype).add_(0.5).mul_(self.width)
        mean = means.index_select(0, cell)
        exponent = (size - middle).mul_(x - mean).add_(middle.mul_(x)).sub_(self.potential(x))
        chance = exponent.sub_(bounds.index_select(0, cell)).exp_().mul_(wide)
        if chance.numel() and not float(chance.max()) <= 1:
            raise StaircaseError(
                f"expected fields |h| ≤ {self.largest:.4g} for draws of a site, got one of "
                f"{float(size.max()):.4g}"
            )
        return torch.where(h < 0, -x, x), chance

    @torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
    def _like(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key = h.dtype, h.device
        if key not in self._converted:
            edges, means, bounds = self._tables
            self._converted[key] = edges.to(h).flatten(), means.to(h), bounds.to(h)
        return self._converted[key]

    @cached_property
    @torch.inference_mode(False)
    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """The edges of the steps of each cell, (cells, steps + 1), its m_k, and b_k(h_k), in float64."""
        fine = torch.linspace(-self.cut, self.cut, _FINE + 1, dtype=torch.float64)
        middle = (torch.arange(self.cells, dtype=torch.float64) + 0.5)[:, None] * self.width
        log_p = middle * fine - self.potential(fine)
        peak = log_p.amax(1, keepdim=True)
        p = torch.exp(log_p - peak)
        mean = (p * fine).sum(1, keepdim=True) / p.sum(1, keepdim=True)
        log_high = log_p - peak + self.width / 2 * (fine - mean).abs()
        # between nodes a density may rise above both by an eighth of the second difference of its logarithm
        bend = torch.nn.functional.pad(self.potential(fine).diff(n=2).abs(), (1, 1), mode="constant")
        bend[0], bend[-1] = bend[1], bend[-2]
        bend = torch.maximum(bend[1:], bend[:-1]) / 4
        high = torch.exp(torch.maximum(log_high[:, 1:], log_high[:, :-1]) + bend).clamp(min=1e-300)
        edges, area = _equal_steps(high.numpy(), fine.numpy())
        bounds = peak[:, 0] + torch.log(torch.from_numpy(area)) + _MARGIN
        return torch.from_numpy(edges), mean[:, 0], bounds


def _equal_steps(high: Heights, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of staircases above the heights of fine cells, and the largest area of a step of each.

    The area is as small as it can be for so many steps from end to end, by bisection.
    """
    total = (high * np.diff(fine)).sum(1) / _STEPS
    low, area = total, 1.5 * total
    edges, ends = _steps(high, fine, area)
    while (ends > _STEPS).any():
        low, area = area, 2 * area
        edges, ends = _steps(high, fine, area)
    for _ in range(_HALVINGS):
        middle = (low + area) / 2
        tried, ends = _steps(high, fine, middle)
        fits = ends <= _STEPS
        low, area = np.where(fits, low, middle), np.where(fits, middle, area)
        edges = np.where(fits[:, None], tried, edges)
    return edges, area


def _steps(high: Heights, fine: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of steps of one area each, from left to right, and how many steps there are or would be."""
    rows, cut = np.arange(len(high)), fine[-1]
    edges = np.full((len(high), _STEPS + 1), cut)
    start, top = np.full(len(high), fine[0]), np.zeros(len(high))
    edges[:, 0], count = fine[0], np.zeros(len(high), dtype=np.int64)
    for left, right, height in zip(fine[:-1], fine[1:], np.ascontiguousarray(high.T), strict=True):
        top = np.maximum(top, height)
        while (full := (end := start + area / top) < right).any():
            end = np.maximum(end, left)
            count += full
            inside = full & (count <= _STEPS)
            edges[rows[inside], count[inside]] = end[inside]
            start, top = np.where(full, end, start), np.where(full, height, top)
    return edges, count + 1
