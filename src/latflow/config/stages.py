"""The sections of a configuration that every theory shares: chains, and what all stages compute on."""

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator

from latflow.config.sections import Section
from latflow.errors import ConfigError

if TYPE_CHECKING:
    import torch


FEWEST_STEPS = 6
"""From which every error can be made: that of the rate of a changing charge needs this many."""

MOST = 10**12
"""Of anything that is counted: more is a slip of the hand."""


class ChainConfig(Section):
    """How long a chain is, and what moves it.

    Attributes:
        kernels: what moves it, in turn; a step is one of each. Each is a registered sampler, with its
            settings in a table of its name within this section, or has its `type` there. Names are of one's
            own then, so that a sampler can stand twice in a cycle. One alone needs no list.
        steps: recorded steps of each chain.
        chains: how many chains run side by side.
        thermalisation: steps of each chain that come first and are thrown away.
        block: steps that are written at a time.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    kernels: Annotated[tuple[str, ...], Field(strict=False)] = ()
    steps: Annotated[int, Field(ge=FEWEST_STEPS, le=MOST)] = 1000
    chains: Annotated[int, Field(ge=1, le=MOST)] = 64
    thermalisation: Annotated[int, Field(ge=0, le=MOST)] = 100
    block: Annotated[int, Field(ge=1, le=MOST)] = 250

    @field_validator("kernels", mode="before")
    @classmethod
    def _one_alone(cls, kernels: Any) -> Any:
        return [kernels] if isinstance(kernels, str) else kernels

    @field_validator("kernels")
    @classmethod
    def _make_a_chain(cls, kernels: tuple[str, ...]) -> tuple[str, ...]:
        if not kernels:
            raise ValueError("expected at least one kernel, got none")
        if len(set(kernels)) < len(kernels):
            raise ValueError(f"expected each kernel once, got {', '.join(kernels)}")
        for name in kernels:
            if not re.fullmatch(r"\w+", name) or name in cls.model_fields:
                raise ValueError(f"expected a name of letters, digits and _, got the kernel {name!r}")
        return kernels

    def tables(self) -> dict[str, Any]:
        """The settings of the kernels, as they stand in the file."""
        return dict(self.__pydantic_extra__ or {})


class SamplingConfig(ChainConfig):
    """The chain of the model, which starts at draws from it. By default its proposals move it.

    Attributes:
        save_fields: whether the configurations themselves are written, of this chain and of the one beside
            it.
    """

    kernels: Annotated[tuple[str, ...], Field(strict=False)] = ("proposals",)
    save_fields: bool = False


class BesideConfig(ChainConfig):
    """The chain of established samplers beside it, by default those that the theory names.

    Attributes:
        enabled: whether it runs at all.
        start: a file of configurations at which the chains begin, before the thermalisation: the last of each
            chain of the file, and as many earlier ones, evenly spread, as there are chains to start. They
            begin where the kind of field does if there is none.
    """

    thermalisation: Annotated[int, Field(ge=0, le=MOST)] = 500
    enabled: bool = True
    start: str | None = None


class ComputeConfig(Section):
    """Where and how precisely: the one place that names device, precision and threads.

    Attributes:
        device: "auto" for CUDA where there is one, "cpu", "cuda", or "cuda:1" for the second.
        dtype: of fields and weights; what decides is summed in float64 in any case.
        threads: of a process; as many as PyTorch takes by itself if None.
    """

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,4})?)$")] = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: Annotated[int, Field(ge=1, le=10_000)] | None = None

    @property
    def torch_dtype(self) -> "torch.dtype":
        """The precision of fields and weights."""
        import torch

        return getattr(torch, self.dtype)

    def torch_device(self) -> "torch.device":
        """The device; "auto" is CUDA where there is one.

        Raises:
            ConfigError: when the device is not there.
        """
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"compute.device: expected one of the {torch.cuda.device_count()} CUDA devices here, "
                f"got {self.device!r}"
            )
        return device
