"""Densities of an angle given Fourier coefficients of their logarithm, which a network makes."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.densities.multilevel.conditionals import Columns, Conditional, Each, Others, Tables
from latflow.densities.multilevel.symmetric import AngleNetwork
from latflow.theories.line import Circle, Given
from latflow.theories.neighbours import NearestNeighbours
from latflow.theories.vectors import AngleWeight


class AngleConditional(Conditional):
    """Angles by a Fourier series, whose coefficients c = (a, b) are known for the exact density.

        log q(θ) = Σ_{k=1…K} [a_k cos kθ + b_k sin kθ] − log Z

    Those of p(θ | s_j) are sums over the odd neighbours j, with z = 2π I_0. With ρ e^{iα} = J s_j + H,

        log I_0(|ρ e^{iα} + J e^{iθ}|) = Σ_k g_k(ρ) cos k(θ − α) + a constant

    by expansions of g_k in Chebyshev polynomials of ρ. Z comes from the trapezoid rule on the circle.

    Args:
        theory: of angles.
        nodes: of the circle, −π and π both counted; None for as many as resolve the strongest field.
    """

    def __init__(self, theory: NearestNeighbours, nodes: int | None = None) -> None:
        super().__init__(theory)
        assert isinstance(theory.site, AngleWeight)
        self.site = theory.site
        strongest = 2 * len(theory.lattice) * abs(theory.coupling) + abs(self.site.field)
        self.grid = Circle(math.pi, nodes or 33 + 8 * math.ceil(strongest / 2))
        reach = strongest - abs(theory.coupling)
        self._longest = reach or 1.0
        expansion = _expansion(theory.coupling, self._longest)
        phases = self.grid.x[:, None] * torch.arange(1, max(HARMONICS, len(expansion)) + 1)
        # G_km with g_k(ρ) = Σ_m G_km T_m(ρ/ρ_max), and cos kθ_i and sin kθ_i at the nodes, (2, nodes, _)
        self._tables = Tables(expansion, torch.stack((phases.cos(), phases.sin())))

    def network(self, known: int, width: int, generator: Generator) -> AngleNetwork:
        """The external field is one more vector that it knows."""
        return AngleNetwork(known + 1, HARMONICS, width, generator)

    def seen(self, window: Float[Tensor, "known 2 columns"]) -> Tensor:
        external = self.site.external(window)[:, None].expand(1, -1, window.shape[-1])
        return torch.cat((window, external))

    def draw(self, c: Columns, free: Tensor, generator: Generator) -> tuple[Each, Each]:  # noqa: ARG002
        return self.grid.draw(self._proposals, {"c": c}, {}, generator, self.programs)

    def _proposals(self, given: Given) -> Given:
        """Proposals from q."""
        c = given["c"]
        return self.grid.proposals(self._at_nodes(c), lambda x: _series(x, c), given)

    def log_prob(self, x: Each, c: Columns, free: Tensor) -> Each:  # noqa: ARG002
        return _series(x, c).double() - self.grid.log_normalisation(self._at_nodes(c))

    def draw_exactly(self, s: Others, generator: Generator) -> tuple[Each, Each]:
        return self.draw(self.coefficients(s), s, generator)

    def log_prob_exactly(self, x: Each, s: Others) -> Each:
        return self.log_prob(x, self.coefficients(s), s)

    @torch.no_grad()
    def labels(self, s: Others) -> Columns:
        """The probabilities of the nodes."""
        return self.grid.probabilities(self._at_nodes(self.coefficients(s)))

    def cross_entropy(self, labels: Columns, c: Columns, free: Tensor) -> Each:  # noqa: ARG002
        log_q = self._at_nodes(c)
        return self.grid.log_normalisation(log_q) - (labels * log_q).sum(0)

    def coefficients(self, s: Others) -> Columns:
        """c of p(θ | s), (2K, columns)."""
        expansion = self._tables.like(s)[0]
        x, y = (self.theory.coupling * s).unbind(1)
        x = x + self.site.field
        length = torch.sqrt(x * x + y * y + torch.finfo(s.dtype).tiny)
        cosine, sine = x / length, y / length
        t = length.flatten() / self._longest
        before, last, twice = torch.ones_like(t), t, 2 * t
        polynomials = [before, last]
        while len(polynomials) < expansion.shape[1]:
            before, last = last, twice * last - before
            polynomials.append(last)
        g = (expansion @ torch.stack(polynomials)).view(len(expansion), *length.shape)
        u, v, along, across = cosine, sine, [], []
        for each in g:
            along.append((each * u).sum(0))
            across.append((each * v).sum(0))
            u, v = u * cosine - v * sine, u * sine + v * cosine
        along[0] = along[0] + self.site.field
        return torch.stack((*along, *across))

    def _at_nodes(self, c: Columns) -> Columns:
        waves = self._tables.like(c)[1]
        harmonics = len(c) // 2
        return waves[0, :, :harmonics] @ c[:harmonics] + waves[1, :, :harmonics] @ c[harmonics:]


HARMONICS = 6
"""K of what networks make."""


def _series(x: Each, c: Columns) -> Each:
    """Σ_k [a_k cos kθ + b_k sin kθ] by Clenshaw's sums."""
    a, b = c.view(2, -1, c.shape[1]).unbind()
    cosine, sine = x.cos(), x.sin()
    twice = 2 * cosine
    a_before = a_last = b_before = b_last = torch.zeros_like(x)
    for a_k, b_k in zip(a.flip(0), b.flip(0), strict=True):
        a_before, a_last = a_last, torch.addcmul(a_k - a_before, twice, a_last)
        b_before, b_last = b_last, torch.addcmul(b_k - b_before, twice, b_last)
    return a_last * cosine - a_before + b_last * sine


@torch.inference_mode(False)
def _expansion(coupling: float, longest: float, points: int = 256) -> Tensor:
    """G_km in float64, as many k and m as matter at 1e-9; g_k is even or odd in ρ, as k is."""
    angles = math.pi * (torch.arange(points, dtype=torch.float64) + 0.5) / points
    rho, turn = longest * torch.cos(angles)[:, None], 2 * angles
    squared = rho**2 + coupling**2 + 2 * coupling * rho * torch.cos(turn)
    size = torch.sqrt(squared.clamp(min=0))
    logarithm = size + torch.log(torch.special.i0e(size))
    orders = torch.arange(points // 2)[:, None]
    g = logarithm @ torch.cos(orders * turn).T * (2 / points)
    coefficients = (torch.cos(orders * angles) @ g * (2 / points)).T
    coefficients[:, 0] /= 2
    matter = coefficients[1:].abs() > 1e-9
    kept = [int(some.nonzero().max()) + 1 if some.any() else 1 for some in (matter.any(1), matter.any(0))]
    return coefficients[1 : kept[0] + 1, : max(2, kept[1])].contiguous()
