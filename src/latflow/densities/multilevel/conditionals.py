"""Densities of one site given a few numbers that a network makes: what all have, real numbers, and spins."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Num
from torch import Generator, Tensor
from torch.nn import functional

from latflow.compiled import Programs
from latflow.densities.multilevel.networks import SiteNetwork, WindowNetwork
from latflow.theories.line import Given, Grid
from latflow.theories.neighbours import NearestNeighbours
from latflow.theories.sites import LineWeight, SpinWeight

Columns = Float[Tensor, "_ columns"]
"""Numbers of many sites and configurations, one in a column."""

Each = Num[Tensor, "columns"]
"""One number of each of them."""

Others = Float[Tensor, "neighbours *components columns"]
"""s_j of each of the 2d neighbours j of a site: the sum of e over the other 2d − 1 neighbours of j."""


class Conditional(ABC):
    """The densities of a site x by coefficients c, and the exact one given all neighbours of its neighbours.

    With s_j the sum of the other neighbours of the odd neighbour j, where the odd sites are integrated out,

        log p(x | s) = −V(x) + Σ_j log z(J (s_j + e(x))) − log Z(s)

    Attributes:
        programs: compile what is called for draws from a grid; None where nothing is compiled.
    """

    programs: Programs | None = None

    def __init__(self, theory: NearestNeighbours) -> None:
        self.theory = theory

    @abstractmethod
    def network(self, known: int, width: int, generator: Generator) -> SiteNetwork:
        """One with initial weights that makes coefficients by so many known sites."""

    @abstractmethod
    def seen(self, window: Float[Tensor, "known *components columns"]) -> Tensor:
        """What a network sees of the known e(x), where zeros are those that are not known."""

    @abstractmethod
    def draw(self, c: Columns, free: Tensor, generator: Generator) -> tuple[Each, Each]:
        """x of each column and log q(x), float64."""

    @abstractmethod
    def log_prob(self, x: Each, c: Columns, free: Tensor) -> Each:
        """log q(x), float64."""

    @abstractmethod
    def draw_exactly(self, s: Others, generator: Generator) -> tuple[Each, Each]:
        """x of each column by p(x | s), and log p(x | s), float64."""

    @abstractmethod
    def log_prob_exactly(self, x: Each, s: Others) -> Each:
        """log p(x | s), float64."""

    @abstractmethod
    def labels(self, s: Others) -> Columns:
        """What `cross_entropy` has to know of p(x | s), without graph."""

    @abstractmethod
    def cross_entropy(self, labels: Columns, c: Columns, free: Tensor) -> Each:
        """−⟨log q⟩ over p(x | s), with its soft labels."""


class Tables:
    """Functions in float64, converted once for each precision and device."""

    def __init__(self, *exact: Tensor) -> None:
        self.exact = exact
        self.converted: dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]] = {}

    @torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
    def like(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Those in the precision of a tensor, where it is."""
        key = tensor.dtype, tensor.device
        if key not in self.converted:
            self.converted[key] = tuple(table.to(tensor.detach()) for table in self.exact)
        return self.converted[key]


class NumberConditional(Conditional):
    """Those of numbers.

    Attributes:
        odd: how many coefficients change sign with the field.
        even: how many do not.
        free: how many are the same at all sites of a class.
        unit: what a network sees as one.
    """

    odd: ClassVar[int]
    even: ClassVar[int]
    free: ClassVar[int] = 0
    unit: float = 1.0

    def network(self, known: int, width: int, generator: Generator) -> WindowNetwork:
        z2 = self.theory.site.even
        return WindowNetwork(known, self.odd, self.even, self.free, width, z2=z2, generator=generator)

    def seen(self, window: Float[Tensor, "known columns"]) -> Tensor:
        return window / self.unit


class SpinConditional(NumberConditional):
    """Spins by half the log-odds of +1, which are known for the exact density.

    q(s) = σ(2 c s),    c = H + ½ Σ_j [log z(J (s_j + 1)) − log z(J (s_j − 1))] for p(s | s_j)
    """

    odd, even = 1, 0

    def draw(self, c: Columns, free: Tensor, generator: Generator) -> tuple[Each, Each]:  # noqa: ARG002
        log_odds = 2 * c[0].double()
        uniform = torch.rand(log_odds.shape, generator=generator, dtype=torch.float64, device=c.device)
        x = torch.where(torch.logit(uniform) < log_odds, 1.0, -1.0)
        return x.to(c.dtype), functional.logsigmoid(log_odds * x)

    def log_prob(self, x: Each, c: Columns, free: Tensor) -> Each:  # noqa: ARG002
        return functional.logsigmoid(2 * c[0].double() * x)

    def draw_exactly(self, s: Others, generator: Generator) -> tuple[Each, Each]:
        return self.draw(self.half_log_odds(s), s[0], generator)

    def log_prob_exactly(self, x: Each, s: Others) -> Each:
        return self.log_prob(x, self.half_log_odds(s), s[0])

    @torch.no_grad()
    def labels(self, s: Others) -> Columns:
        """The probability of +1."""
        return torch.sigmoid(2 * self.half_log_odds(s))

    def cross_entropy(self, labels: Columns, c: Columns, free: Tensor) -> Each:  # noqa: ARG002
        log_odds = 2 * c[0]
        return functional.softplus(log_odds) - labels[0] * log_odds

    def half_log_odds(self, s: Others) -> Columns:
        """c of p(x | s), (1, columns)."""
        site, coupling = self.theory.site, self.theory.coupling
        gains = site.log_partition(coupling * (s + 1)) - site.log_partition(coupling * (s - 1))
        assert isinstance(site, SpinWeight)
        return (gains.sum(0, keepdim=True) / 2 + site.field).to(s.dtype)


class LineConditional(NumberConditional):
    """Real numbers: a tilt of the weight of a site by polynomials of u = tanh(2x/X), on |x| ≤ X.

        log q(x) = −V(x) + 3 Σ_{k=2,4,…,16} f_k T_k(u) + 3 [c_1 x/X + Σ_{k=2…6} c_k T_k(u)] − log Z

    Beyond the bulk u is constant, and with it all but the linear term. Z comes from the trapezoid rule, and
    that of p(x | s) from the expansion of log z(J (s + x)) in Chebyshev polynomials of s at each node x.
    """

    odd, even, free = 3, 3, 8

    def __init__(self, theory: NearestNeighbours, nodes: int | None = None) -> None:
        super().__init__(theory)
        assert isinstance(theory.site, LineWeight)
        self.site = theory.site
        self.grid = Grid(self.site.cut, nodes or self.site.grid.nodes + 4)
        self.unit = self.site.typical
        own = -self.site.potential(self.grid.x)
        # what c and f multiply, −V(x_i), and G_ki with log z(J (s + x_i)) = Σ_k T_k(s/((2d − 1) X)) G_ki
        self._tables = Tables(*_basis(self.grid.x, self.grid.cut), own, _chebyshev(theory, self.grid))

    def _at(self, x: Each, c: Columns, free: Tensor) -> Each:
        """By Clenshaw's sum: v = T_2(u), T_2k(u) = T_k(v), T_3 = u (2v − 1), T_5 = u (4v² − 2v − 1)."""
        u = torch.tanh(2 / self.grid.cut * x)
        twice = 4 * u * u - 2  # 2v
        before, last = torch.zeros_like(u), free[-1].expand_as(u)
        for k, common in reversed(list(enumerate(free[:-1].unbind()))):
            step = torch.addcmul(common - before, twice, last)
            before, last = last, step + c[3 + k] if k < 3 else step
        even = torch.addcmul(-before, twice, last, value=0.5)
        fifth = torch.addcmul(-1 - twice, twice, twice)
        odd = c[0] * (x / self.grid.cut) + u * torch.addcmul(c[1] * (twice - 1), c[2], fifth)
        return 3 * (odd + even) - self.site.potential(x)

    def _at_nodes(self, c: Columns, free: Tensor) -> Columns:
        tilts, common, own, _ = self._tables.like(c)
        return torch.addmm((own + free @ common)[:, None], tilts.T, c)

    def draw(self, c: Columns, free: Tensor, generator: Generator) -> tuple[Each, Each]:
        shared = {"free": free.detach()}
        return self.grid.draw(self._tilted, {"c": c}, shared, generator, self.programs)

    def _tilted(self, given: Given) -> Given:
        """Proposals from q."""
        c, free = given["c"], given["free"]
        return self.grid.proposals(self._at_nodes(c, free), lambda x: self._at(x, c, free), given)

    def log_prob(self, x: Each, c: Columns, free: Tensor) -> Each:
        log_z = self.grid.log_normalisation(self._at_nodes(c, free))
        return self._inside(x, self._at(x, c, free) - log_z)

    def draw_exactly(self, s: Others, generator: Generator) -> tuple[Each, Each]:
        # the expansion is made before: compilers would make each of its terms from the first again
        columns = {"s": s, "log_p": self._exactly_at_nodes(s)}
        return self.grid.draw(self._exact, columns, {}, generator, self.programs)

    def _exact(self, given: Given) -> Given:
        """Proposals from p(x | s)."""
        return self.grid.proposals(given["log_p"], lambda x: self._exactly_at(x, given["s"]), given)

    def log_prob_exactly(self, x: Each, s: Others) -> Each:
        log_z = self.grid.log_normalisation(self._exactly_at_nodes(s))
        return self._inside(x, self._exactly_at(x, s) - log_z)

    @torch.no_grad()
    def labels(self, s: Others) -> Columns:
        """The probabilities of the nodes."""
        return self.grid.probabilities(self._exactly_at_nodes(s))

    def cross_entropy(self, labels: Columns, c: Columns, free: Tensor) -> Each:
        log_q = self._at_nodes(c, free)
        return self.grid.log_normalisation(log_q) - (labels * log_q).sum(0)

    def _inside(self, x: Each, log_q: Each) -> Each:
        return torch.where(x.abs() <= self.grid.cut, log_q, -math.inf)

    def _exactly_at(self, x: Each, s: Others) -> Each:
        fields = self.theory.coupling * (s + x)
        return self.site.log_partition(fields).sum(0) - self.site.potential(x)

    def _exactly_at_nodes(self, s: Others) -> Columns:
        t = s / _farthest(self.theory, self.grid)
        before, last, twice = torch.ones_like(t), t, 2 * t
        _, _, own, expansion = self._tables.like(s)
        sums = [before.sum(0), last.sum(0)]
        for _ in range(len(expansion) - 2):
            before, last = last, twice * last - before
            sums.append(last.sum(0))
        return torch.addmm(own[:, None], expansion.T, torch.stack(sums))


def _basis(x: Tensor, cut: float) -> tuple[Tensor, Tensor]:
    """The functions that c and f multiply, first those of odd c, (6, …) and (8, …)."""
    u = torch.tanh(2 / cut * x)
    t = [torch.ones_like(u), u]
    while len(t) <= 16:
        t.append(2 * u * t[-1] - t[-2])
    return 3 * torch.stack((x / cut, t[3], t[5], t[2], t[4], t[6])), 3 * torch.stack(t[2::2])


def _farthest(theory: NearestNeighbours, grid: Grid) -> float:
    """(2d − 1) X, the largest s."""
    return (2 * len(theory.lattice) - 1) * grid.cut


def _chebyshev(theory: NearestNeighbours, grid: Grid, points: int = 256) -> Tensor:
    """G_ki in float64, as many k as matter at 1e-8."""
    angles = math.pi * (torch.arange(points, dtype=torch.float64) + 0.5) / points
    s = _farthest(theory, grid) * torch.cos(angles)
    values = theory.site.log_partition(theory.coupling * (s[:, None] + grid.x))
    cosines = torch.cos(torch.arange(points)[:, None] * angles)
    coefficients = cosines @ values * 2 / points
    coefficients[0] /= 2
    size = coefficients.abs().amax(1)
    return coefficients[: max(2, int((size > 1e-8).nonzero()[-1]) + 1)]
