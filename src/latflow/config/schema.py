"""A whole configuration: what it holds."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, create_model, field_validator

from latflow.config.parts import Buildable
from latflow.config.sections import Section, section_of
from latflow.config.stages import MOST, BesideConfig, ComputeConfig, SamplingConfig
from latflow.measurement import Measurement

if TYPE_CHECKING:
    from latflow.samplers import Sampler
    from latflow.theories import Action


class Tables(Section):
    """The tables of a file, before what they name is looked at.

    Attributes:
        name: of the run, and of its folder where no other is given.
        description: one line, for people.
        seed: from which every generator of the run is derived.
        action: the theory, by its `type`, with its arguments.
        model: the density that is trained, likewise; its lattice is that of the theory. Without one there is
            no training, and no chain but that of the established sampler.
        training: the estimator, how often a checkpoint is written, and the arguments of `training.Trainer`.
        sampling: the chain of the model.
        beside: the chain beside it.
        compute: device, precision, threads.
        reference: known numbers by the names of observables, each "value(error)"; they override exact
            results.
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=200)]
    description: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=1000)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    action: dict[str, Any]
    model: dict[str, Any] | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    sampling: SamplingConfig = SamplingConfig()
    beside: BesideConfig = BesideConfig()
    compute: ComputeConfig = ComputeConfig()
    reference: dict[str, str] = Field(default_factory=dict)

    @field_validator("reference")
    @classmethod
    def _readable(cls, reference: dict[str, str]) -> dict[str, str]:
        for text in reference.values():
            Measurement.parse(text)
        return reference


@dataclass(frozen=True)
class ChainPlan:
    """A chain of a run.

    Attributes:
        name: "model" or "beside", its group of series.
        steps, chains, thermalisation, block: its length.
        kernels: what moves it, by name, in turn.
        repeats: how often each acts in a step.
        start: a file of configurations at which the chains begin; where the kind of field starts if None.
    """

    name: str
    steps: int
    chains: int
    thermalisation: int
    block: int
    kernels: dict[str, Buildable]
    repeats: dict[str, int] = field(default_factory=dict)
    start: str | None = None

    def build(self, action: "Action", density: Any = None) -> "dict[str, Sampler[Any, Any]]":
        """The samplers by name, as configured: not tuned yet."""
        return {name: kernel.build(action=action, density=density) for name, kernel in self.kernels.items()}

    def table(self) -> dict[str, Any]:
        """The section of a file that gives this plan."""
        table: dict[str, Any] = {"kernels": list(self.kernels), **length_of(self)}
        table |= {} if self.start is None else {"start": self.start}
        for name, kernel in self.kernels.items():
            repeat = {"repeat": self.repeats[name]} if self.repeats.get(name, 1) > 1 else {}
            table[name] = {**kernel.table(), **repeat}
        return table


@dataclass(frozen=True)
class RunConfig:
    """A configuration that was checked. `Tables` says what its parts are.

    Attributes:
        model: None where there is none; so are then `training` and `sampling`.
        training: a section with `estimator`, `checkpoint_every` and the arguments of `training.Trainer`.
        beside: None where no chain runs beside the model.
    """

    name: str
    description: str
    seed: int
    action: Buildable
    model: Buildable | None
    training: Any
    sampling: ChainPlan | None
    beside: ChainPlan | None
    save_fields: bool
    compute: ComputeConfig
    reference: dict[str, str]

    def chain(self, name: str) -> ChainPlan | None:
        """The plan of the chain "model" or "beside"."""
        return {"model": self.sampling, "beside": self.beside}[name]

    def table(self) -> dict[str, Any]:
        """All of it as a file can hold it, defaults too."""
        of_model = {}
        if self.model is not None:
            training = self.training.model_dump(mode="json", exclude_none=True)
            of_model = {"model": self.model.table(), "training": training}
        return {
            "name": self.name,
            "description": self.description,
            "seed": self.seed,
            "action": self.action.table(),
            **of_model,
            "sampling": _table_of(self.sampling) | {"save_fields": self.save_fields},
            "beside": {"enabled": False} if self.beside is None else self.beside.table(),
            "compute": self.compute.model_dump(mode="json", exclude_none=True),
            "reference": self.reference,
        }


def _table_of(plan: ChainPlan | None) -> dict[str, Any]:
    return {} if plan is None else plan.table()


def training_section() -> type[Section]:
    """The section of a training: the arguments of `Trainer` and what a run adds."""
    from latflow.training import Trainer

    base = section_of(Trainer, frozenset({"density", "action", "estimator", "generator"}))
    options = Field(default_factory=dict, description="arguments of the estimator")
    start = Field(None, description="the folder of a run, whose best weights count, or a checkpoint")
    own: dict[str, Any] = {
        "estimator": (str, Field("reinforce", description="a name in `estimators.ESTIMATORS`")),
        "estimator_options": (dict[str, int | float | str], options),
        "init_from": (str | None, start),
        "steps": (Annotated[int, Field(ge=0, le=MOST)], 1000),
        "batch": (Annotated[int, Field(ge=1, le=MOST)], 1024),
        "checkpoint_every": (Annotated[int, Field(ge=1, le=MOST)], Field(100, description="in steps")),
    }
    return create_model("Training", __base__=base, **own)


def length_of(chain: Any) -> dict[str, Any]:
    """The settings of a section, or of a plan, that say how long a chain is."""
    return {key: getattr(chain, key) for key in ("steps", "chains", "thermalisation", "block")}
