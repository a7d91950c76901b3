"""From coarse to fine: priors that put a coarse theory on a finer lattice, and theories as priors.

In the latent variables of a flow over such a prior the long wavelengths are those of the coarse theory, which
is cheap to sample. Hybrid Monte Carlo through the flow needs no draws of the prior, training does.

Source: the slides on machine-learned trivializing flows by Albandea, Del Debbio, Hernández, Kenway, Marsh
Rossney and Ramos, "Training from a coarser theory".
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.densities.flows.base import Bijection, Compose, Flow
from latflow.densities.flows.priors import Prior
from latflow.fields import FieldKind
from latflow.lattice import check_even, checked_lattice, summed
from latflow.theories.base import Action
from latflow.types import Field, Lattice, LogProb


def interleave(coarse: Float[Tensor, "_ *coarse"]) -> Float[Tensor, "_ *fine"]:
    """2^d coarse fields as one fine field, each on a sublattice of every second site.

        φ(2x + c) = φ_c(x),   c ∈ {0, 1}^d

    Args:
        coarse: (batch · 2^d, *lattice); the 2^d fields of one configuration follow each other, ordered by c
            with its last component running fastest.

    Returns:
        (batch, *fine), every side twice as long.

    Example:
        >>> interleave(torch.tensor([[0.0, 1.0], [10.0, 11.0]]))
        tensor([[ 0., 10.,  1., 11.]])
    """
    dimensions = coarse.ndim - 1
    corners_first = coarse.unflatten(0, (-1, *[2] * dimensions))
    pairs = [(1 + dimensions + mu, 1 + mu) for mu in range(dimensions)]
    order = [0, *itertools.chain.from_iterable(pairs)]
    return corners_first.permute(order).reshape(-1, *(2 * side for side in coarse.shape[1:]))


def separate(fine: Float[Tensor, "_ *fine"]) -> Float[Tensor, "_ *coarse"]:
    """The 2^d sublattices of a fine field as coarse fields: the inverse of `interleave`.

    Raises:
        ValueError: when a side is odd.
    """
    check_even(fine.shape[1:])
    dimensions = fine.ndim - 1
    halves = [side // 2 for side in fine.shape[1:]]
    paired = fine.reshape(-1, *itertools.chain.from_iterable((half, 2) for half in halves))
    order = [0, *(2 + 2 * mu for mu in range(dimensions)), *(1 + 2 * mu for mu in range(dimensions))]
    return paired.permute(order).reshape(-1, *halves)


class Interleaved(Prior):
    """2^d independent fields of a coarse prior, interleaved: log r(z) = Σ_c log r_c(z_c).

    Interleaving moves sites and changes no volume. The fine field knows the correlation length of the coarse
    theory, twice as many lattice units long.

    Args:
        coarse: the prior on the lattice with half the sides.
    """

    def __init__(self, coarse: Prior) -> None:
        super().__init__([2 * side for side in coarse.lattice])
        self.coarse = coarse

    @property
    def kind(self) -> FieldKind:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the coarse prior."""
        return self.coarse.kind

    @property
    def normalised(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the coarse prior."""
        return self.coarse.normalised

    def sample(self, n: int, generator: Generator) -> Field:
        """n draws, (n, *lattice), from 2^d times as many of the coarse prior."""
        return interleave(self.coarse.sample(n * 2 ** len(self.lattice), generator))

    def log_prob(self, z: Field) -> LogProb:
        """log r(z), with the normalisation of the coarse prior."""
        return self.coarse.log_prob(separate(z)).unflatten(0, (len(z), 2 ** len(self.lattice))).sum(1)

    def on_lattice(self, lattice: Sequence[int]) -> "Interleaved":
        """The same prior on another lattice.

        Raises:
            ValueError: when a side is odd, and as the coarse prior.
        """
        return Interleaved(self.coarse.on_lattice(_halved(lattice)))


class EverySecondSite(Prior):
    """One coarse field on every second site in each direction, standard normal numbers on all others.

        z(2x) = φ_c(x),    log r(z) = log r_c(φ_c) − ½ Σ_rest z² − (V − V/2^d)/2 log 2π

    Args:
        coarse: the prior on the lattice with half the sides.
    """

    def __init__(self, coarse: Prior) -> None:
        super().__init__([2 * side for side in coarse.lattice])
        self.coarse = coarse

    @property
    def kind(self) -> FieldKind:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the coarse prior."""
        return self.coarse.kind

    @property
    def normalised(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the coarse prior."""
        return self.coarse.normalised

    def sample(self, n: int, generator: Generator) -> Field:
        """n draws, (n, *lattice)."""
        known = self.coarse.sample(n, generator)
        shape = (n, *self.lattice)
        z = torch.randn(shape, generator=generator, dtype=known.dtype, device=known.device)
        z[self._known()] = known
        return z

    def log_prob(self, z: Field) -> LogProb:
        """log r(z), with the normalisation of the coarse prior."""
        known = z[self._known()]
        rest = summed(z * z) - summed(known * known)
        sites = math.prod(z.shape[1:]) - math.prod(known.shape[1:])
        return self.coarse.log_prob(known) - 0.5 * rest - 0.5 * sites * math.log(2 * math.pi)

    def on_lattice(self, lattice: Sequence[int]) -> "EverySecondSite":
        """The same prior on another lattice.

        Raises:
            ValueError: when a side is odd, and as the coarse prior.
        """
        return EverySecondSite(self.coarse.on_lattice(_halved(lattice)))

    def _known(self) -> tuple[slice, ...]:
        return (slice(None), *(slice(None, None, 2) for _ in self.lattice))


class OnSublattices(Bijection):
    """A map of coarse fields, applied to each of the 2^d sublattices of a fine one.

        y_c = f(x_c),    log_det = Σ_c log |det ∂f/∂x_c|

    Args:
        bijection: f, for example that of a flow trained on the coarse theory.
    """

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        y, log_det = self.bijection.forward(separate(x))
        return interleave(y), log_det.unflatten(0, (len(x), 2 ** (x.ndim - 1))).sum(1)

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        x, log_det = self.bijection.inverse(separate(y))
        return interleave(x), log_det.unflatten(0, (len(y), 2 ** (y.ndim - 1))).sum(1)

    def forward_with_score(self, x: Field, score: Tensor) -> tuple[Field, LogProb, Tensor]:
        y, log_det, after = self.bijection.forward_with_score(separate(x), separate(score))
        return interleave(y), log_det.unflatten(0, (len(x), 2 ** (x.ndim - 1))).sum(1), interleave(after)


def refined(coarse: Prior | Flow, fine: Bijection) -> Flow:
    """A flow on the lattice with twice the sides, that starts from 2^d coarse configurations.

    Of a coarse flow it is the iteration: prior → interleave → the coarse flow on each sublattice → `fine`.
    The parameters are shared with the coarse flow; freeze them there to train `fine` alone.

    Args:
        coarse: the coarse theory, as a prior, or as a flow that reaches it (refined itself, perhaps).
        fine: what maps the interleaved fields to the fine theory, for example `minimal_flow(…).bijection`.

    Returns:
        A flow without recipe, since no preset built it: its weights go to a file by `state_dict`.
    """
    if isinstance(coarse, Flow):
        return Flow(Interleaved(coarse.prior), Compose(OnSublattices(coarse.bijection), fine))
    return Flow(Interleaved(coarse), fine)


Source = Callable[[int, Generator], Tensor]
"""Makes n configurations, (n, …), of a theory: from chains that run, `samplers.RunningChains`, or exactly."""


class TheoryPrior(Prior):
    """A theory as prior: log r(z) = −S(z) − log Z, drawn by a source of its configurations.

    For a coarse theory, or one of a shorter correlation length on the same lattice ("bigger volume": in units
    of that length it is). The prior itself holds no state: what its draws remember is up to the source.

    Without log_z the density is not normalised: log q of a flow over this prior, log Z and the variational
    free energy are then relative to log Z of the prior's theory. The effective sample size, Metropolis tests,
    gradients and HMC do not know the difference.

    Args:
        action: S.
        source: of configurations that follow exp(−S). One that is a module is stored with the weights.
        log_z: log Z of exp(−S) for a flat measure, where it is known.

    Raises:
        ValueError: for a theory whose exp(−S) cannot be normalised.
    """

    def __init__(self, action: Action, source: Source, *, log_z: float | None = None) -> None:
        super().__init__(action.lattice)
        action.check_proper()
        self.action: Action = action
        self.source: Source = source
        self.log_z: float | None = log_z

    @property
    def normalised(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether log Z is known."""
        return self.log_z is not None

    @property
    def kind(self) -> FieldKind:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the theory."""
        return self.action.kind

    def sample(self, n: int, generator: Generator) -> Field:
        """n draws, (n, *field)."""
        return self.source(n, generator)

    def log_prob(self, z: Field) -> LogProb:
        """−S(z) − log Z."""
        return -self.action(z) - (self.log_z or 0.0)

    def on_lattice(self, lattice: Sequence[int]) -> "TheoryPrior":
        """This prior, if that is its lattice.

        Raises:
            ValueError: for another lattice, where another theory is due.
        """
        if checked_lattice(lattice) != self.lattice:
            raise ValueError(
                f"expected the lattice {self.lattice} of the theory, got {tuple(lattice)}: "
                "another theory is due there, as a prior for the same bijection"
            )
        return self


def _halved(lattice: Sequence[int]) -> Lattice:
    check_even(lattice)
    return tuple(side // 2 for side in lattice)
