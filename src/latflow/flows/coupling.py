"""Coupling layers: the frozen half of the field sets the parameters of a scalar map of the active half."""

import torch
from torch import Tensor, nn

from latflow.flows.base import Bijection, WayBack
from latflow.flows.networks import ConvNet, Z2ConvNet
from latflow.flows.recall import recalled
from latflow.flows.scalar_maps import Parameters, RealMap
from latflow.lattice import Checkerboard
from latflow.types import Field, Lattice, LogProb, Sites


class Coupling(Bijection):
    """One colour of the checkerboard is mapped site by site, with parameters computed from the other colour.

        y_active = f(x_active; N(x_frozen)),   y_frozen = x_frozen,   log_det = Σ_active log f′

    With a `Z2ConvNet` the layer commutes with φ → −φ, whatever the weights: to the last bit for `Affine`, to
    the rounding of a sum for `Spline`.

    Args:
        parity: colour of the active sites, 0 or 1.
        scalar_map: f, site by site.
        network: N, whose outputs are the parameters of f.
    """

    def __init__(self, parity: int, scalar_map: RealMap, network: ConvNet | Z2ConvNet) -> None:
        super().__init__()
        self.sites = Checkerboard(parity)
        self.scalar_map = scalar_map
        self.network = network

    def parameters_from(self, frozen: Sites, lattice: Lattice) -> Parameters:
        """The parameters of the scalar map at each active site, in the precision of the field."""
        field = self.sites.frozen_only(frozen, lattice)[:, None]
        output = self.network(field, self._select)
        if isinstance(output, Tensor):
            return output.to(frozen.dtype)
        even, odd = output
        return self.scalar_map.symmetrized(even.to(frozen.dtype), odd.to(frozen.dtype))

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        active, frozen = self.sites.split(x)
        y, log_slope = self.scalar_map.forward(active, self.parameters_from(frozen, x.shape[1:]))
        return self.sites.merge(y, frozen, x.shape[1:]), log_slope.sum(1)

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        active, frozen = self.sites.split(y)
        x, log_slope = self.scalar_map.inverse(active, self.parameters_from(frozen, y.shape[1:]))
        return self.sites.merge(x, frozen, y.shape[1:]), log_slope.sum(1)

    def forward_and_back(self, x: Field) -> tuple[Field, LogProb, WayBack]:
        active, frozen = self.sites.split(x)
        lattice = tuple(x.shape[1:])
        parameters, parameters_again = recalled(
            lambda sites: self.parameters_from(sites, lattice), frozen, self.network.parameters()
        )

        def back(y: Field) -> tuple[Field, LogProb]:
            active, frozen = self.sites.split(y)
            x, log_slope = self.scalar_map.inverse(active, parameters_again(frozen))
            return self.sites.merge(x, frozen, lattice), log_slope.sum(1)

        with torch.no_grad():
            y, log_slope = self.scalar_map.forward(active, parameters)
            return self.sites.merge(y, frozen, lattice), log_slope.sum(1), back

    def _select(self, features: Tensor) -> Tensor:
        return self.sites.active(features, features.ndim - 2)


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
        self.values = nn.Parameter(torch.zeros(1, n, 1))
        self.z2 = z2

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        y, log_slope = self.scalar_map.forward(x.flatten(1), self._own_parameters())
        return y.reshape(x.shape), log_slope.sum(1)

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        x, log_slope = self.scalar_map.inverse(y.flatten(1), self._own_parameters())
        return x.reshape(y.shape), log_slope.sum(1)

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
        self.log_scale = nn.Parameter(torch.tensor(float(log_scale)))

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        return torch.exp(self.log_scale) * x, (self.log_scale * x[0].numel()).expand(len(x))

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        return torch.exp(-self.log_scale) * y, (-self.log_scale * y[0].numel()).expand(len(y))
