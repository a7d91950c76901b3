"""What a configuration may hold: one class a table of the file."""

from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from latflow.actions import Action, HoppingPhi4, Phi4
from latflow.analysis import LABELS, Measurement
from latflow.errors import ConfigError
from latflow.flows import build_flow
from latflow.training import OptimizerName, PrecisionName, Schedule, ScheduleName

EstimatorName = Literal["score", "reinforce", "reinforce_leave_one_out", "reparametrization", "path_gradient"]
"""The keys of `estimators.ESTIMATORS`."""

Integers = Annotated[tuple[int, ...], Field(strict=False)]
"""Several whole numbers: a list in TOML."""


class _Section(BaseModel):
    """A table of the file: no unknown keys, no silent conversions, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Phi4Config(_Section):
    """The action `actions.Phi4`."""

    type: Literal["phi4"]
    lattice: Integers
    m2: float
    lam: float

    def build(self) -> Action:
        """The action itself."""
        return Phi4(self.lattice, m2=self.m2, lam=self.lam)


class HoppingPhi4Config(_Section):
    """The action `actions.HoppingPhi4`."""

    type: Literal["hopping_phi4"]
    lattice: Integers
    beta: float
    lam: float

    def build(self) -> Action:
        """The action itself."""
        return HoppingPhi4(self.lattice, beta=self.beta, lam=self.lam)


class AffineFlowConfig(_Section):
    """The arguments of `flows.affine_flow`."""

    type: Literal["affine"]
    layers: PositiveInt = 16
    hidden: Integers = (16, 16, 16)
    kernel: int | Integers = 3
    dilation: int | Integers = 1
    activation: str = "leaky_relu"
    final: str = "tanh"
    z2: bool = False
    fourier: bool = False


class SplineFlowConfig(_Section):
    """The arguments of `flows.spline_flow`."""

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


class ScheduleConfig(_Section):
    """The arguments of `training.Schedule`."""

    name: ScheduleName = "constant"
    warmup: NonNegativeInt = 0
    floor: NonNegativeFloat = 0.0
    factor: PositiveFloat = 0.5
    every: PositiveInt = 1000
    patience: PositiveInt = 200

    def build(self) -> Schedule:
        """The schedule itself."""
        return Schedule(**self.model_dump())

    @model_validator(mode="after")
    def _buildable(self) -> "ScheduleConfig":
        self.build()
        return self


class TrainingConfig(_Section):
    """The estimator, the arguments of `training.Trainer`, and how often a checkpoint is written."""

    estimator: EstimatorName = "reinforce"
    steps: PositiveInt = 1000
    batch: PositiveInt = 1024
    sub_batch: PositiveInt | None = None
    learning_rate: PositiveFloat = 1e-3
    betas: Annotated[tuple[float, float], Field(strict=False)] = (0.9, 0.999)
    optimizer: OptimizerName = "adam"
    weight_decay: NonNegativeFloat = 0.0
    clip: PositiveFloat | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    precision: PrecisionName = "full"
    max_skipped: NonNegativeInt = 20
    checkpoint_every: PositiveInt = 100

    @model_validator(mode="after")
    def _decay_is_read(self) -> "TrainingConfig":
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(f"expected weight_decay with optimizer adamw alone, got {self.optimizer}")
        return self


class SamplingConfig(_Section):
    """Independence Metropolis with draws of the flow.

    Attributes:
        steps: recorded steps of each chain.
        chains: how many chains run side by side.
        thermalisation: steps of each chain that come first and are thrown away.
        batch: proposals drawn at once, over all chains.
        block: steps that are written at a time.
        save_fields: whether the configurations themselves are written, of this chain and of that of HMC.
    """

    steps: PositiveInt = 1000
    chains: PositiveInt = 64
    thermalisation: NonNegativeInt = 100
    batch: PositiveInt = 1024
    block: PositiveInt = 250
    save_fields: bool = False


class HMCConfig(_Section):
    """Hybrid Monte Carlo beside the flow: the reference where nothing exact is known."""

    enabled: bool = True
    steps: PositiveInt = 1000
    chains: PositiveInt = 64
    thermalisation: NonNegativeInt = 500
    trajectory_length: PositiveFloat = 1.0
    target_acceptance: Annotated[float, Field(gt=0, lt=1)] = 0.8
    integrator: Literal["leapfrog", "omelyan", "minimum_norm"] = "leapfrog"
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.2
    block: PositiveInt = 250


class ComputeConfig(_Section):
    """Where and how precisely: the one place that names device, precision and threads."""

    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: PositiveInt | None = None

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        if device != "auto":
            try:
                torch.device(device)
            except RuntimeError:
                raise ValueError("expected 'auto', 'cpu', 'cuda' or 'cuda:<number>'") from None
        return device

    @property
    def torch_dtype(self) -> torch.dtype:
        """The precision of fields and weights."""
        return getattr(torch, self.dtype)

    def torch_device(self) -> torch.device:
        """The device; "auto" is CUDA where there is one.

        Raises:
            ConfigError: when the device is not there.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"compute.device: expected one of the {torch.cuda.device_count()} CUDA devices here, "
                f"got {self.device!r}"
            )
        return device


class RunConfig(_Section):
    """A whole run.

    Attributes:
        name: of the run, and of its folder where no other is given.
        description: one line, for people.
        seed: from which every generator of the run is derived.
        reference: known numbers by the names of `analysis.LABELS`, each "value(error)".
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
    description: str = ""
    seed: NonNegativeInt = 1
    action: Annotated[Phi4Config | HoppingPhi4Config, Field(discriminator="type")]
    flow: Annotated[AffineFlowConfig | SplineFlowConfig, Field(discriminator="type")]
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()
    hmc: HMCConfig = HMCConfig()
    compute: ComputeConfig = ComputeConfig()
    reference: dict[str, str] = {}

    def flow_recipe(self) -> dict[str, Any]:
        """What `flows.build_flow` builds the flow from."""
        return self.flow.model_dump() | {"lattice": self.action.lattice}

    @field_validator("reference")
    @classmethod
    def _readable(cls, reference: dict[str, str]) -> dict[str, str]:
        if unknown := [name for name in reference if name not in LABELS]:
            raise ValueError(f"expected names out of {', '.join(LABELS)}, got {', '.join(unknown)}")
        for text in reference.values():
            Measurement.parse(text)
        return reference

    @model_validator(mode="after")
    def _buildable(self) -> "RunConfig":
        for section, build in (
            ("action", self.action.build),
            ("flow", lambda: build_flow(self.flow_recipe())),
        ):
            try:
                build()
            except ValueError as error:
                raise ValueError(f"{section}: {error}") from error
        return self


SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): RunConfig,
    ("action", "phi4"): Phi4Config,
    ("action", "hopping_phi4"): HoppingPhi4Config,
    ("flow", "affine"): AffineFlowConfig,
    ("flow", "spline"): SplineFlowConfig,
    ("training",): TrainingConfig,
    ("training", "schedule"): ScheduleConfig,
    ("sampling",): SamplingConfig,
    ("hmc",): HMCConfig,
    ("compute",): ComputeConfig,
}
"""Every table by its path in the file, with the type behind where there are several."""
