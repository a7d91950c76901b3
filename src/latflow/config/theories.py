"""What a configuration may hold of theories and densities: one class a type."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from latflow.actions import Action, HoppingPhi4, Ising, Phi4, Schwinger, U1Gauge

DENSITIES_OF = {
    "scalar": "a flow of a scalar field",
    "gauge": "a flow of links",
    "spin": "a network of spins",
}
"""The density of each kind of field, in messages."""

Integers = Annotated[tuple[int, ...], Field(strict=False)]
"""Several whole numbers: a list in TOML."""


class Section(BaseModel):
    """A table of the file: no unknown keys, no silent conversions, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Phi4Config(Section):
    """The action `actions.Phi4`."""

    type: Literal["phi4"]
    lattice: Integers
    m2: float
    lam: float

    def build(self) -> Action:
        """The action itself."""
        return Phi4(self.lattice, m2=self.m2, lam=self.lam)


class HoppingPhi4Config(Section):
    """The action `actions.HoppingPhi4`."""

    type: Literal["hopping_phi4"]
    lattice: Integers
    beta: float
    lam: float

    def build(self) -> Action:
        """The action itself."""
        return HoppingPhi4(self.lattice, beta=self.beta, lam=self.lam)


class U1Config(Section):
    """The action `actions.U1Gauge`."""

    type: Literal["u1"]
    lattice: Integers
    beta: float

    def build(self) -> Action:
        """The action itself."""
        return U1Gauge(self.lattice, self.beta)


class SchwingerConfig(Section):
    """The action `actions.Schwinger`."""

    type: Literal["schwinger"]
    lattice: Integers
    beta: float
    kappa: float
    flavours: PositiveInt = 2
    boundary: Literal["antiperiodic", "periodic"] = "antiperiodic"

    def build(self) -> Action:
        """The action itself."""
        return Schwinger(self.lattice, self.beta, self.kappa, self.flavours, self.boundary)


class IsingConfig(Section):
    """The action `actions.Ising`."""

    type: Literal["ising"]
    lattice: Integers
    beta: float
    field: float = 0.0
    couplings: list[Any] | None = None

    def build(self) -> Action:
        """The action itself."""
        return Ising(self.lattice, self.beta, self.field, self.couplings)


class AffineFlowConfig(Section):
    """The arguments of `flows.affine_flow`."""

    kind: ClassVar[str] = "scalar"
    type: Literal["affine"]
    layers: PositiveInt = 16
    hidden: Integers = (16, 16, 16)
    kernel: int | Integers = 3
    dilation: int | Integers = 1
    activation: str = "leaky_relu"
    final: str = "tanh"
    z2: bool = False
    fourier: bool = False


class SplineFlowConfig(Section):
    """The arguments of `flows.spline_flow`."""

    kind: ClassVar[str] = "scalar"
    type: Literal["spline"]
    layers: PositiveInt = 4
    bins: PositiveInt = 8
    bound: PositiveFloat = 4.0
    hidden: Integers = (32, 32)
    kernel: int | Integers = (5, 1, 1)
    dilation: int | Integers = 1
    activation: str = "silu"
    z2: bool = True
    fourier: bool = True
    site_bins: NonNegativeInt = 16
    scale: PositiveFloat = 1.0


class MinimalFlowConfig(Section):
    """The arguments of `flows.minimal_flow`."""

    kind: ClassVar[str] = "scalar"
    type: Literal["minimal"]
    kernel: PositiveInt = 3
    layers: NonNegativeInt = 2


class GaugeFlowConfig(Section):
    """The arguments of `flows.gauge_flow`."""

    kind: ClassVar[str] = "gauge"
    type: Literal["gauge"]
    layers: PositiveInt = 48
    masks: Literal["diagonal", "stripes"] = "diagonal"
    scalar_map: Literal["spline", "projection"] = "spline"
    bins: PositiveInt = 8
    rectangles: Literal["none", "frozen", "all"] = "frozen"
    hidden: Integers = (64, 64)
    kernel: int | Integers = 3
    dilation: int | Integers = (1, 2, 3)
    activation: str = "leaky_relu"
    prior_beta: NonNegativeFloat = 0.0


class DenseConfig(Section):
    """The arguments of `autoregressive.dense_spins`."""

    kind: ClassVar[str] = "spin"
    type: Literal["dense"]
    hidden: Integers = (4,)
    z2: bool = True


class ConvolutionalConfig(Section):
    """The arguments of `autoregressive.convolutional_spins`."""

    kind: ClassVar[str] = "spin"
    type: Literal["convolutional"]
    channels: PositiveInt = 8
    kernels: Integers = (15, 5)
    z2: bool = True


class HierarchicalConfig(Section):
    """The arguments of `autoregressive.hierarchical_spins`."""

    kind: ClassVar[str] = "spin"
    type: Literal["hierarchical"]
    hidden: Integers = (4,)
    coupling: float = 0.0
    z2: bool = True
