"""A flow of circular couplings for the XY model, from the coarsest sublattice to the finest."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn

from latflow.densities.flows.base import Bijection, Flow
from latflow.densities.flows.priors import Prior
from latflow.densities.flows.scalar_maps import Parameters
from latflow.densities.recipe import recipe_of
from latflow.fields import FieldKind
from latflow.fields.angles import SITE_ANGLES
from latflow.lattice import checked_lattice, summed
from latflow.seeds import seeded
from latflow.theories.base import Action
from latflow.theories.xy.action import XY, xy_of
from latflow.theories.xy.flow.circle import GeneralizedVonMises
from latflow.theories.xy.flow.conditionals import conditional_before, last_conditional
from latflow.theories.xy.flow.stages import BEFORE, LAST, TOP, Stage, levels, offsets_within, roles, stages
from latflow.types import Count, Field, LogProb

_NEAREST = 0.5
"""The weight of the nearest known neighbours in the local field before training."""


def circular_flow(
    lattice: Sequence[int],
    *,
    action: Action,
    harmonics: Count = 4,
    channels: Count = 12,
    hidden: Count = 32,
    reach: Count = 3,
    generator: Generator | None = None,
) -> Flow:
    """Circular couplings over uniform angles, each site mapped once, given sites that are already known.

    A draw goes from coarse to fine, in the order of `flow.stages`. The sites of a stage get angles of a
    generalised von Mises distribution about a local field of known sites, whose parameters come from a
    network; in the last two stages, five sites of eight in two dimensions, those of the XY model itself,
    exactly. So the networks learn what is local at every scale and nothing else, and their weights do not
    know the lattice: levels learned on a small one are the fine levels of a large one.

    Whatever the weights, the density is invariant under reflections and, without a field, under rotations.

    Args:
        lattice: side lengths, all even.
        action: an XY model, or a sum or multiple of such, from which the last stage comes.
        harmonics: K of the distribution of a site.
        channels: sums over the window that each network sees beside the local field.
        hidden: width of the networks.
        reach: of the windows, in spacings of the sublattice.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for an odd side, another theory, and numbers that are not positive.
    """
    recipe = recipe_of("circular", circular_flow, locals())
    sides = checked_lattice(lattice)
    if min(channels, hidden, reach) < 1:
        raise ValueError(f"expected positive numbers, got {channels=}, {hidden=} and {reach=}")
    bijection = CoarseToFine(
        xy_of(action), len(sides), levels(sides), harmonics, channels, hidden, reach, seeded(generator)
    )
    symmetries = ("z2",) if bijection.theory.field else ("u1", "z2")
    return Flow(UniformAngles(sides), bijection, recipe, symmetries)


class UniformAngles(Prior):
    """Independent angles, uniform on (−π, π]: log r(z) = −V log 2π, whatever z."""

    kind: FieldKind = SITE_ANGLES

    def sample(self, n: int, generator: Generator) -> Field:
        """n independent draws, (n, *lattice)."""
        shape = (n, *self.lattice)
        unit = torch.rand(shape, generator=generator, dtype=self.like.dtype, device=self.like.device)
        return 2 * math.pi * (0.5 - unit)

    def log_prob(self, z: Field) -> LogProb:
        """log r(z)."""
        return z.new_full((len(z),), -math.prod(z.shape[1:]) * math.log(2 * math.pi), dtype=torch.float64)


class LocalConditional(nn.Module):
    """The parameters of a site's distribution, from the known sites around it.

        F_c = Σ_y w_{c,y} e^{iθ_y},    a_k = δ_{k1} |F_0| + u^k N_even,    b_k = u^k N_odd,    t = arg F_0

    The local field F_0 has equal weights at offsets that reflections relate. The network sees invariants
    alone: the components of the F_c along and across F_0, and their lengths. Its outputs are made even and
    odd under θ → −θ, which changes the sign of the components across, and u = |F_0|/√(1 + |F_0|²) lets the
    k-th harmonic vanish where the direction of F_0 has no meaning.

    Args:
        dimensions: of the lattice.
        harmonics: K.
        channels: how many F_c the network sees beside F_0.
        hidden: its width.
        reach: of the window.
        generator: draws the initial weights.
    """

    orbits: Tensor

    def __init__(
        self, dimensions: int, harmonics: int, channels: int, hidden: int, reach: int, generator: Generator
    ) -> None:
        super().__init__()
        self.harmonics = harmonics
        offsets = offsets_within(reach, dimensions)
        distances, orbits = offsets.abs().unique(dim=0, return_inverse=True)
        self.register_buffer("orbits", orbits, persistent=False)
        self.local: nn.Parameter = nn.Parameter(torch.where(distances.amax(1) == 1, _NEAREST, 0.0))
        self.sums: nn.Parameter = nn.Parameter(
            _normal((channels, len(offsets)), 1 / math.sqrt(len(offsets)), generator)
        )
        self.along: nn.Parameter = nn.Parameter(
            _normal((2 * channels + 1, hidden), 1 / math.sqrt(2 * channels), generator)
        )
        self.across: nn.Parameter = nn.Parameter(
            _normal((channels, hidden), 1 / math.sqrt(channels), generator)
        )
        self.bias: nn.Parameter = nn.Parameter(_normal((hidden,), 1.0, generator))
        self.out: nn.Parameter = nn.Parameter(
            _normal((hidden, 2 * harmonics), 0.1 / math.sqrt(hidden), generator)
        )
        self.constant: nn.Parameter = nn.Parameter(torch.zeros(harmonics))

    def forward(self, cosine: Tensor, sine: Tensor, stage: Stage) -> Parameters:
        """The parameters at the active sites, (batch, 2K + 1, active).

        Args:
            cosine: cos θ of all sites, (batch, sites).
            sine: likewise.
            stage: which sites are active, and known.
        """
        weights = torch.cat((self.local[self.orbits][None], self.sums))[:, stage.offsets]
        seen = torch.stack((cosine, sine))[:, :, stage.window] * stage.known.to(cosine)
        real, imaginary = seen @ weights.T  # (batch, active, 1 + channels) each
        (x, real), (y, imaginary) = (part.split([1, part.shape[-1] - 1], -1) for part in (real, imaginary))
        squared = x * x + y * y
        scale = torch.rsqrt(1 + squared)
        along, across = scale * (real * x + imaginary * y), scale * (imaginary * x - real * y)
        lengths = torch.log1p(real * real + imaginary * imaginary)
        even = torch.cat((along, lengths, scale), -1) @ self.along + self.bias
        odd = across @ self.across
        plus, minus = torch.tanh(even + odd), torch.tanh(even - odd)
        out_even, out_odd = self.out.chunk(2, 1)
        length = torch.sqrt(squared + torch.finfo(x.dtype).tiny)
        powers = (length * scale) ** torch.arange(1, self.harmonics + 1, dtype=x.dtype, device=x.device)
        a = powers * ((plus + minus) @ out_even / 2 + self.constant)
        b = powers * ((plus - minus) @ out_odd / 2)
        a = torch.cat((a[..., :1] + length, a[..., 1:]), -1)
        return torch.cat((a, b, torch.atan2(y, x)), -1).transpose(1, 2)


class CoarseToFine(Bijection):
    """Maps uniform angles to a field, stage by stage, each site once.

        θ_x = t_x + Φ⁻¹(z_x − t_x; known sites),    t_x = arg F_0(x),    log_det = −Σ log r

    Every stage is a coupling whose frozen part are the sites known before it; it commutes with rotations and
    reflections of all sites. On a lattice with more levels
    than the flow was made for, the coarsest weights serve all further ones.

    Args:
        theory: the XY model of the last stage; one with couplings stays on its lattice.
        dimensions: of the lattice.
        n_levels: with weights of their own.
        harmonics: as in `circular_flow`, and the others too.
        channels: likewise.
        hidden: likewise.
        reach: likewise.
        generator: draws the initial weights.
    """

    def __init__(
        self,
        theory: XY,
        dimensions: int,
        n_levels: int,
        harmonics: int,
        channels: int,
        hidden: int,
        reach: int,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.theory: XY = theory
        self.reach: int = reach
        self.circular_map: GeneralizedVonMises = GeneralizedVonMises(harmonics)
        sizes = (dimensions, harmonics, channels, hidden, reach, generator)
        self.top: LocalConditional = LocalConditional(*sizes)
        self.levels: nn.ModuleList = nn.ModuleList(
            nn.ModuleDict({role: LocalConditional(*sizes) for role in _learned(level, dimensions)})
            for level in range(n_levels)
        )

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        _check_complex(x)
        log_det, flat = x.new_zeros(len(x), dtype=torch.float64), x.flatten(1)
        for stage in stages(tuple(x.shape[1:]), self.reach, x.device):
            circular_map, parameters = self._conditional(stage, flat.view_as(x))
            y, log_slope = circular_map.forward(flat[:, stage.active], parameters)
            flat = flat.index_copy(1, stage.active, y)
            log_det = log_det + summed(log_slope)
        return flat.view_as(x), log_det

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        _check_complex(y)
        log_det, flat = y.new_zeros(len(y), dtype=torch.float64), y.flatten(1)
        found = flat
        for stage in stages(tuple(y.shape[1:]), self.reach, y.device):
            circular_map, parameters = self._conditional(stage, y)
            z, log_slope = circular_map.inverse(flat[:, stage.active], parameters)
            found = found.index_copy(1, stage.active, z)
            log_det = log_det + summed(log_slope)
        return found.view_as(y), log_det

    def _conditional(self, stage: Stage, x: Field) -> tuple[GeneralizedVonMises, Parameters]:
        """The map of the sites of a stage, and its parameters; x holds the known sites."""
        if stage.role == LAST:
            return last_conditional(self._theory_on(x), x, stage)
        if stage.role == BEFORE:
            return conditional_before(self._theory_on(x), x, stage)
        flat = x.flatten(1)
        network = self._network(stage)
        return self.circular_map, network(flat.cos(), flat.sin(), stage)

    def _network(self, stage: Stage) -> nn.Module:
        if stage.role == TOP or not len(self.levels):
            return self.top
        level = self.levels[min(stage.level, len(self.levels) - 1)]
        assert isinstance(level, nn.ModuleDict)
        return level[stage.role] if stage.role in level else self.top  # noqa: SIM401 (no dict)

    def _theory_on(self, x: Field) -> XY:
        """The theory on the lattice of x; couplings of single bonds keep it on its own."""
        return self.theory if self.theory.couplings else replace(self.theory, lattice=tuple(x.shape[1:]))


def _check_complex(x: Field) -> None:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"expected angles in float32 or float64, whose waves are complex numbers, got {x.dtype}"
        )


def _learned(level: int, dimensions: int) -> list[str]:
    """The classes of a level that have a network: on the finest one those with an odd number are exact."""
    return [role for role in roles(dimensions) if level or role.count("1") % 2 == 0]


def _normal(shape: tuple[int, ...], scale: float, generator: Generator) -> Tensor:
    return scale * torch.randn(shape, generator=generator, device=generator.device)
