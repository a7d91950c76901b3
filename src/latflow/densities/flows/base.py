"""Bijections with their log-determinants, and the density that a bijection makes of a prior."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latflow.densities.base import PathDraws, score_of
from latflow.densities.flows.priors import Prior
from latflow.fields import FieldKind
from latflow.lattice import checked_lattice
from latflow.types import Field, Lattice, LogProb


class Bijection(nn.Module, ABC):
    """An invertible, differentiable map of a batch of fields, on any lattice that its masks can tile."""

    @abstractmethod
    def forward(self, x: Field) -> tuple[Field, LogProb]:
        """y = f(x) and log |det ∂y/∂x|."""

    @abstractmethod
    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        """x = f⁻¹(y) and log |det ∂x/∂y|."""

    def nearly_inverse(self, y: Field) -> tuple[Field, LogProb]:
        """The inverse for the sake of its derivative: values may be off by what steps of integration err."""
        return self.inverse(y)

    def refined(self) -> "Bijection | None":
        """The same map with half the steps of integration in size, over the same parameters; None without."""
        return None

    def forward_and_back(self, x: Field) -> tuple[Field, LogProb, "WayBack"]:
        """`forward` without a graph, and `inverse` for the one y that it gave.

        What a network computed on the way there need not be computed again on the way back, and the graph
        which it left there serves here; the gradients are those of `inverse`, of first order.
        """
        with torch.no_grad():
            y, log_det = self.forward(x)
        return y, log_det, self.inverse

    def forward_with_score(self, x: Field, score: Tensor) -> tuple[Field, LogProb, Tensor]:
        """`forward`, and the score of y, if x has a density r with this score.

            ∂ log q/∂y = J⁻ᵀ (∂ log r/∂x − ∂ log |det J|/∂x),   J = ∂y/∂x,   q(y) = r(x) / |det J|

        Here it is the gradient of the inverse at y; a coupling does it without a second run of its network.

        Args:
            x: fields.
            score: ∂ log r/∂x, in the shape of x, without graph.

        Returns:
            y and log |det J|, with the graph of `forward`, and the score of y without.
        """
        y, log_det = self.forward(x)
        with torch.enable_grad():
            leaf = y.detach().requires_grad_()
            again, log_det_back = self.nearly_inverse(leaf)
            (after,) = torch.autograd.grad((score * again).sum() + log_det_back.sum(), leaf)
        return y, log_det, after


def check_precision(bijection: nn.Module, x: Tensor) -> None:
    """Refuse fields in another precision than that of the weights.

    Raises:
        ValueError: naming both.
    """
    weight = next(bijection.parameters(), None)
    if weight is not None and x.dtype != weight.dtype:
        raise ValueError(f"expected fields in {weight.dtype}, as the weights are, got {x.dtype}")


WayBack = Callable[[Field], tuple[Field, LogProb]]


class Compose(Bijection):
    """The maps one after the other, the first one first.

    Args:
        bijections: in the order in which `forward` applies them.
    """

    def __init__(self, *bijections: Bijection) -> None:
        super().__init__()
        self.bijections: nn.ModuleList = nn.ModuleList(bijections)

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        log_det = x.new_zeros(len(x), dtype=torch.float64)
        for bijection in self.bijections:
            x, step = bijection.forward(x)
            log_det = log_det + step
        return x, log_det

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        return self._back(y, "inverse")

    def nearly_inverse(self, y: Field) -> tuple[Field, LogProb]:
        return self._back(y, "nearly_inverse")

    def _back(self, y: Field, way: str) -> tuple[Field, LogProb]:
        log_det = y.new_zeros(len(y), dtype=torch.float64)
        for bijection in reversed(self.bijections):
            y, step = getattr(bijection, way)(y)
            log_det = log_det + step
        return y, log_det

    def refined(self) -> Bijection | None:
        finer = [bijection.refined() for bijection in self.bijections]  # pyright: ignore[reportCallIssue]
        if all(one is None for one in finer):
            return None
        return Compose(*(one or same for one, same in zip(finer, self.bijections, strict=True)))  # pyright: ignore[reportArgumentType]

    def forward_and_back(self, x: Field) -> tuple[Field, LogProb, WayBack]:
        log_det, ways = x.new_zeros(len(x), dtype=torch.float64), []
        for bijection in self.bijections:
            x, step, back = bijection.forward_and_back(x)  # pyright: ignore[reportCallIssue]
            log_det = log_det + step
            ways.append(back)

        def all_back(y: Field) -> tuple[Field, LogProb]:
            log_det = y.new_zeros(len(y), dtype=torch.float64)
            for back in reversed(ways):
                y, step = back(y)
                log_det = log_det + step
            return y, log_det

        return x, log_det, all_back

    def forward_with_score(self, x: Field, score: Tensor) -> tuple[Field, LogProb, Tensor]:
        log_det = x.new_zeros(len(x), dtype=torch.float64)
        for bijection in self.bijections:
            x, step, score = bijection.forward_with_score(x, score)  # pyright: ignore[reportCallIssue]
            log_det = log_det + step
        return x, log_det, score


class Inverse(Bijection):
    """The inverse of a bijection, as a bijection over the same parameters."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        return self.bijection.inverse(x)

    def refined(self) -> Bijection | None:
        finer = self.bijection.refined()
        return None if finer is None else Inverse(finer)

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        return self.bijection.forward(y)


class Flow(nn.Module):
    """The density of x = f(z), z drawn from the prior: log q(x) = log r(z) − log |det ∂f/∂z|.

    Args:
        prior: r(z), which knows the lattice.
        bijection: f, which does not.
        recipe: the configuration from which a named preset built the flow; what `save_density` writes.
        symmetries: of the kind of field, by name, which the density has exactly, whatever its parameters.
    """

    def __init__(
        self,
        prior: Prior,
        bijection: Bijection,
        recipe: dict[str, Any] | None = None,
        symmetries: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.prior = prior
        self.bijection = bijection
        self.recipe = recipe
        self.symmetries: tuple[str, ...] = tuple(symmetries)

    @property
    def lattice(self) -> Lattice:
        """Side lengths of the fields that are drawn."""
        return self.prior.lattice

    @property
    def kind(self) -> FieldKind:
        """Of the fields that are drawn."""
        return self.prior.kind

    @property
    def normalised(self) -> bool:
        """Whether the integral of q is one, so that its weights know log Z of a theory."""
        return self.prior.normalised

    def forward(self, z: Field) -> tuple[Field, LogProb]:
        """Prior to field: (x, log |det ∂x/∂z|).

        Raises:
            ValueError: for fields on another lattice, or in another precision than that of the weights.
        """
        self._check(z)
        return self.bijection.forward(z)

    def inverse(self, x: Field) -> tuple[Field, LogProb]:
        """Field to prior: (z, log |det ∂z/∂x|). Raises as `forward`."""
        self._check(x)
        return self.bijection.inverse(x)

    def sample(self, n: int, generator: Generator) -> tuple[Field, LogProb]:
        """n independent fields (n, *lattice) and log q of each."""
        z = self.prior.sample(n, generator)
        x, log_det = self.bijection.forward(z)
        return x, self.prior.log_prob(z) - log_det

    def log_prob(self, x: Field) -> LogProb:
        """log q(x). Raises as `forward`."""
        self._check(x)
        z, log_det = self.bijection.inverse(x)
        return self.prior.log_prob(z) + log_det

    def _check(self, x: Field) -> None:
        self.kind.check(x, self.lattice)
        check_precision(self.bijection, x)

    def sample_fixed(self, n: int, generator: Generator) -> tuple[Field, LogProb]:
        """n independent fields, and log q of each with the graph of `log_prob` at these fields.

        Each network runs once, not twice as in `sample` followed by `log_prob`.
        """
        z = self.prior.sample(n, generator)
        x, log_det, back = self.bijection.forward_and_back(z)
        log_q = self.prior.log_prob(z) - log_det
        again, log_det_back = back(x)
        score = self.prior.log_prob(again) + log_det_back
        return x, score + (log_q - score).detach()  # the value without the rounding errors of the way back

    def sample_with_score(self, n: int, generator: Generator) -> PathDraws:
        """n independent draws with the graph of the bijection, and the score ∂ log q/∂x of each.

        The score goes through the bijection together with the field. Source: Vaitl, Winkler, Richter,
        Kessel, Fast and unified path gradient estimators for normalizing flows, arXiv:2403.15881.
        """
        with torch.no_grad():
            z = self.prior.sample(n, generator)
        log_prior = self.prior.log_prob(z)
        _, score = score_of(self.prior.log_prob, z)
        x, log_det, score = self.bijection.forward_with_score(z, score)
        return PathDraws(x, (log_prior - log_det).detach(), score, log_prior, self.prior.strata(z))

    def refined(self) -> "Flow | None":
        """The flow with half the steps of integration in size; None where it takes no such steps."""
        finer = self.bijection.refined()
        return None if finer is None else Flow(self.prior, finer, None, self.symmetries)

    def on_lattice(self, lattice: Sequence[int]) -> "Flow":
        """The same network, with the same parameters, on another lattice of as many dimensions.

        Raises:
            ValueError: when the number of dimensions differs.
        """
        sides = checked_lattice(lattice)
        if len(sides) != len(self.lattice):
            raise ValueError(f"expected {len(self.lattice)} side lengths as in {self.lattice}, got {sides}")
        recipe = None if self.recipe is None else self.recipe | {"lattice": list(sides)}
        return Flow(self.prior.on_lattice(sides), self.bijection, recipe, self.symmetries)
