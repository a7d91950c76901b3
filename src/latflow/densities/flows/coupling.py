"""Coupling layers: the frozen part of the field sets the parameters of a scalar map of the active part."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from latflow.densities.flows.base import Bijection, WayBack
from latflow.densities.flows.convolution import Features, Select
from latflow.densities.flows.recall import recalled
from latflow.densities.flows.scalar_maps import Parameters, RealMap, ScalarMap
from latflow.lattice import Checkerboard, summed
from latflow.types import Field, Lattice, LogProb, Sites


class CouplingLayer(Bijection):
    """Some numbers of a field are mapped one by one, with parameters computed from what the map leaves alone.

        y_active = f(x_active; N(seen)),    log_det = Σ_active log f′

    What is seen is the same before and after, so the inverse uses the same parameters. A layer says what is
    active and what is seen (`split`), what the network makes of it (`parameters_from`), and how the new
    numbers come into the field (`replaced`).

    Args:
        scalar_map: f.
        network: N, with the contract `networks.Network`, whose outputs are the parameters of f.
    """

    def __init__(self, scalar_map: ScalarMap, network: nn.Module) -> None:
        super().__init__()
        self.scalar_map = scalar_map
        self.network = network

    @abstractmethod
    def split(self, x: Field) -> tuple[Sites, Tensor]:
        """The active numbers, (batch, active), and what is seen."""

    @abstractmethod
    def parameters_from(self, seen: Tensor, lattice: Lattice) -> Parameters:
        """The parameters of the map of each active number, in the precision of the field."""

    @abstractmethod
    def replaced(self, x: Field, old: Sites, new: Sites, seen: Tensor) -> Field:
        """The field in which the active numbers are `new` instead of `old`."""

    @abstractmethod
    def pulled_new(self, gradient: Field) -> Sites:
        """The gradient by `new` of `replaced`, from one by the field that it gives."""

    @abstractmethod
    def pulled_split(self, gradient: Field, by_new: Sites, by_old: Sites, by_seen: Tensor) -> Field:
        """The gradient by x of `replaced` at a fixed `new`, and that of what `split` finds in x.

        Args:
            gradient: by the field that `replaced` gives.
            by_new: what `pulled_new` makes of it.
            by_old: by the active numbers in x.
            by_seen: by what is seen in x.
        """

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        active, seen = self.split(x)
        y, log_slope = self.scalar_map.forward(active, self.parameters_from(seen, _sides(x)))
        return self.replaced(x, active, y, seen), summed(log_slope)

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        active, seen = self.split(y)
        x, log_slope = self.scalar_map.inverse(active, self.parameters_from(seen, _sides(y)))
        return self.replaced(y, active, x, seen), summed(log_slope)

    def forward_and_back(self, x: Field) -> tuple[Field, LogProb, WayBack]:
        active, seen = self.split(x)
        lattice = _sides(x)
        parameters, parameters_again = recalled(
            lambda seen: self.parameters_from(seen, lattice), seen, self.network.parameters()
        )

        def back(y: Field) -> tuple[Field, LogProb]:
            active, seen = self.split(y)
            x, log_slope = self.scalar_map.inverse(active, parameters_again(seen))
            return self.replaced(y, active, x, seen), summed(log_slope)

        with torch.no_grad():
            y, log_slope = self.scalar_map.forward(active, parameters)
            return self.replaced(x, active, y, seen), summed(log_slope), back

    def forward_with_score(self, x: Field, score: Tensor) -> tuple[Field, LogProb, Tensor]:
        if not torch.is_grad_enabled():
            return super().forward_with_score(x, score)
        x = x if x.requires_grad else x.detach().requires_grad_()
        active, seen = self.split(x)
        new, log_slope = self.scalar_map.forward(active, self.parameters_from(seen, _sides(x)))
        y = self.replaced(x, active, new, seen)
        return y, summed(log_slope), self._score_after(score, active, seen, new, log_slope)

    def _score_after(
        self, score: Tensor, active: Sites, seen: Tensor, new: Sites, log_slope: Sites
    ) -> Tensor:
        """The gradient of the inverse, by the graph that leads from what is active and seen to f and log f′.

        The inverse puts a in place of f(a; N(seen)). With v = ∂ log r/∂a, what f and what is seen get are

            u = (v − ∂_a log f′) / f′,    −(∂_seen f)ᵀ u − ∂_seen Σ log f′
        """
        ones, v = torch.ones_like(log_slope), self.pulled_new(score)
        (bent,) = _pulled([log_slope], [ones], [active])
        u = (v - bent) * torch.exp(-log_slope.detach())
        (by_seen,) = _pulled([new, log_slope], [-u, -ones], [seen])
        return self.pulled_split(score, v, u, by_seen)


class Coupling(CouplingLayer):
    """One colour of the checkerboard is mapped site by site, with parameters computed from the other colour.

        y_active = f(x_active; N(x_frozen)),   y_frozen = x_frozen,   log_det = Σ_active log f′

    With a network of `OddMap` the layer commutes with φ → −φ, whatever the weights: to the last bit for
    `Affine`, to the rounding of a sum for `Spline`.

    Args:
        parity: colour of the active sites, 0 or 1.
        scalar_map: f, site by site.
        network: N, with the contract `networks.Network`, whose outputs are the parameters of f.
    """

    def __init__(self, parity: int, scalar_map: ScalarMap, network: nn.Module) -> None:
        super().__init__(scalar_map, network)
        self.sites: Checkerboard = Checkerboard(parity)

    def split(self, x: Field) -> tuple[Sites, Sites]:
        """The active and the frozen sites."""
        return self.sites.split(x)

    def parameters_from(self, seen: Sites, lattice: Lattice) -> Parameters:
        """The parameters of the scalar map at each active site, in the precision of the field."""
        field = self.sites.frozen_only(seen, lattice)[:, None]
        return self.network(field, self._select).to(seen.dtype)

    def replaced(self, x: Field, old: Sites, new: Sites, seen: Sites) -> Field:  # noqa: ARG002
        """The new sites merged with the frozen ones."""
        return self.sites.merge(new, seen, _sides(x))

    def pulled_new(self, gradient: Field) -> Sites:
        """At the active sites."""
        return self.sites.active(gradient, gradient.ndim - 1)

    def pulled_split(self, gradient: Field, by_new: Sites, by_old: Sites, by_seen: Sites) -> Field:  # noqa: ARG002
        """The frozen sites go through both."""
        _, frozen = self.sites.split(gradient)
        return self.sites.merge(by_old, frozen + by_seen, _sides(gradient))

    def _select(self, features: Tensor) -> Tensor:
        return self.sites.active(features, features.ndim - 2)


class OddMap(nn.Module):
    """Parameters with which a map of the real line is odd, f(−x; N(−z)) = −f(x; N(z)), as a network.

    Args:
        scalar_map: f, which says how even and odd numbers make its parameters.
        network: with `f.n_even` even outputs, then `f.n_odd` odd ones: a `Z2ConvNet`, or any in `Parities`.
    """

    def __init__(self, scalar_map: RealMap, network: nn.Module) -> None:
        super().__init__()
        self.scalar_map = scalar_map
        self.network = network

    def forward(self, x: Features, select: Select | None = None) -> Parameters:
        """The parameters, in the precision of x: sums of two outputs are not taken in a lower one."""
        outputs = self.network(x, select).to(x.dtype)
        even, odd = outputs.split((self.scalar_map.n_even, self.scalar_map.n_odd), 1)
        return self.scalar_map.symmetrized(even, odd)


class SiteMap(Bijection):
    """One scalar map for every site alike, with parameters of its own; odd in the field when `z2` is set.

    Args:
        scalar_map: f, the identity until its parameters are trained.
        z2: whether f(−x) = −f(x) is enforced.
    """

    def __init__(self, scalar_map: RealMap, z2: bool = True) -> None:
        super().__init__()
        self.scalar_map = scalar_map
        n = scalar_map.n_even if z2 else scalar_map.n_parameters
        self.values: nn.Parameter = nn.Parameter(torch.zeros(1, n, 1))
        self.z2 = z2

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        y, log_slope = self.scalar_map.forward(x.flatten(1), self._own_parameters())
        return y.reshape(x.shape), summed(log_slope)

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        x, log_slope = self.scalar_map.inverse(y.flatten(1), self._own_parameters())
        return x.reshape(y.shape), summed(log_slope)

    def _own_parameters(self) -> Parameters:
        if not self.z2:
            return self.values
        odd = self.values.new_zeros(1, self.scalar_map.n_odd, 1)
        return self.scalar_map.symmetrized(self.values, odd)


class Scale(Bijection):
    """y = exp(a) x, with one number a for all sites.

    Args:
        log_scale: the initial a.
    """

    def __init__(self, log_scale: float = 0.0) -> None:
        super().__init__()
        self.log_scale: nn.Parameter = nn.Parameter(torch.tensor(float(log_scale)))

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        return torch.exp(self.log_scale) * x, (self.log_scale.double() * math.prod(x.shape[1:])).expand(
            len(x)
        )

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        return torch.exp(-self.log_scale) * y, (-self.log_scale.double() * math.prod(y.shape[1:])).expand(
            len(y)
        )


def _pulled(values: list[Tensor], cotangents: list[Tensor], at: list[Tensor]) -> tuple[Tensor, ...]:
    """Σ Jᵀ cotangent at some tensors of a graph, which stays."""
    pairs = [(value, one) for value, one in zip(values, cotangents, strict=True) if value.requires_grad]
    if not pairs:
        return tuple(map(torch.zeros_like, at))
    return torch.autograd.grad(
        [value for value, _ in pairs],
        at,
        [one for _, one in pairs],
        retain_graph=True,
        materialize_grads=True,
    )


def _sides(x: Field) -> Lattice:
    return tuple(x.shape[1:])
