"""The methods that may serve a theory: samplers of the registry and the configuration, and cycles of them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from latflow.config import ChainPlan, Part, RunConfig
from latflow.config.parts import part
from latflow.errors import ConfigError
from latflow.planning.models import Trained
from latflow.registry import names
from latflow.samplers import Sampler
from latflow.theories import Action

Kernels = Mapping[str, Part]


@dataclass(frozen=True)
class Length:
    """How long a chain is, where a plan has found nothing yet: as the configuration of the theory says."""

    chains: int
    block: int


@dataclass(frozen=True)
class Method:
    """A way to move chains, which a pilot tries.

    Attributes:
        title: "HMC, trajectory_length = 2".
        kernels: what moves them, in turn, by name.
        repeats: how often each acts in a step, where that is not once.
        length: of the chains.
        trained: the model that is drawn from; None where none is.
    """

    title: str
    kernels: Kernels
    repeats: Mapping[str, int]
    length: Length
    trained: Trained | None = None

    @property
    def section(self) -> str:
        """The one of a configuration that holds such a chain."""
        return "beside" if self.trained is None else "sampling"

    def plan(self, steps: int = 1, thermalisation: int = 0) -> ChainPlan:
        """The chain of a run."""
        return ChainPlan(
            "beside" if self.trained is None else "model",
            steps=steps,
            chains=self.length.chains,
            thermalisation=thermalisation,
            block=self.length.block,
            kernels=dict(self.kernels),
            repeats=dict(self.repeats),
        )

    @property
    def key(self) -> str:
        """What tells it from others."""
        tables = {name: kernel.table() for name, kernel in self.kernels.items()}
        return f"{tables} {dict(self.repeats)} {self.trained and self.trained.name}"


def length_of(plan: ChainPlan | None) -> Length:
    """Of the chains of a configuration, or as many as are usual."""
    return Length(64, 250) if plan is None else Length(plan.chains, plan.block)


@dataclass(frozen=True)
class Serving:
    """The registered samplers that serve a theory, as far as their constructors accept it.

    Attributes:
        alone: by name, those that reach all configurations.
        within: those that must stand beside another one.
        refused: why the others do not serve.
    """

    alone: Mapping[str, Sampler[Any, Any]]
    within: Mapping[str, Sampler[Any, Any]]
    refused: Mapping[str, str]


def serving(action: Action, density: Any = None) -> Serving:
    """Try all of them, with a model or without."""
    alone, within, refused = {}, {}, {}
    for name in names("samplers"):
        try:
            sampler = _kernel(name, {}).build(action=action, density=density)
        except ConfigError as error:
            refused[name] = str(error)
            continue
        if not isinstance(sampler, Sampler):
            refused[name] = f"expected a subclass of latflow.samplers.Sampler, got {type(sampler).__name__}"
            continue
        (alone if sampler.ergodic else within)[name] = sampler
    return Serving(alone, within, refused)


def established(config: RunConfig, action: Action, found: Serving) -> Iterator[Method]:
    """Those without a model: the chain that the configuration has, and each sampler with its alternatives."""
    length = length_of(config.beside)
    if config.beside is not None and all(isinstance(one, Part) for one in config.beside.kernels.values()):
        yield _method(action, config.beside.kernels, config.beside.repeats, length)
    for name, sampler in found.alone.items():
        if not sampler.proposes:
            yield from _with_alternatives(action, name, sampler, length, None)


def with_others(leader: Method, action: Action, found: Serving) -> Iterator[Method]:
    """The best of them in a cycle with what must stand beside another one: each, and all together."""
    others = {name: _kernel(name, {}) for name in found.within if name not in leader.kernels}
    sets = [{name: kernel} for name, kernel in others.items()] + ([others] if len(others) > 1 else [])
    for added in sets:
        yield _method(action, {**leader.kernels, **added}, leader.repeats, leader.length)


def of_model(
    trained: Trained, leader: Method | None, config: RunConfig, action: Action, found: Serving
) -> Iterator[Method]:
    """Those that need a model: each sampler that does, and its proposals in a cycle with the best without.

    Of the model of the configuration itself also the chain that this has.
    """
    length = length_of(config.sampling or config.beside)
    if config.sampling is not None and config.model == trained.config.model:
        yield _method(action, config.sampling.kernels, config.sampling.repeats, length, trained)
    mine = serving(action, trained.density)
    # proposals first: they are the cheapest to try
    own = [(name, sampler) for name, sampler in mine.alone.items() if name not in found.alone]
    for name, sampler in sorted(own, key=lambda each: not each[1].proposes):
        yield from _with_alternatives(action, name, sampler, length, trained)
        if sampler.proposes and leader is not None and hasattr(trained.density, "log_prob"):
            kernels = {name: _kernel(name, {}), **leader.kernels}
            yield _method(action, kernels, leader.repeats, length, trained)


def distinct(methods: Iterator[Method]) -> list[Method]:
    """Each once."""
    return list({one.key: one for one in methods}.values())


def _with_alternatives(
    action: Action, name: str, sampler: Sampler[Any, Any], length: Length, trained: Trained | None
) -> Iterator[Method]:
    for settings in sampler.alternatives() or ({},):
        yield _method(action, {name: _kernel(name, settings)}, {}, length, trained)


def _kernel(name: str, settings: Mapping[str, Any]) -> Part:
    return part("samplers", name, {"type": name, **settings}, ("repeat",))


def _method(
    action: Action,
    kernels: Mapping[str, Any],
    repeats: Mapping[str, int],
    length: Length,
    trained: Trained | None = None,
) -> Method:
    density = None if trained is None else trained.density
    often = {name: number for name, number in repeats.items() if number > 1}
    titles = []
    for name, kernel in kernels.items():
        sampler = kernel.build(action=action, density=density)
        own = "".join(f", {key} = {_number(value)}" for key, value in _settings(kernel).items())
        count = f"{often[name]} × " if name in often else ""
        titles.append(f"{count}{sampler.title}{own}")
    model = "" if trained is None else f" ({trained.name})"
    return Method(" + ".join(titles) + model, dict(kernels), often, length, trained)


def _settings(kernel: Part) -> dict[str, Any]:
    """Those that differ from the defaults of the sampler."""
    try:
        defaults = part("samplers", kernel.place, {"type": kernel.type}).table()
    except ConfigError:  # it has arguments without a default
        defaults = {"type": kernel.type}
    return {key: value for key, value in kernel.table().items() if defaults.get(key) != value}


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)
