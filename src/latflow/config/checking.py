"""What must fit together in a configuration: its parts are built before anything is computed."""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from latflow.config.explaining import unknown_key
from latflow.config.parts import Buildable, Given, part, where_in_foreign
from latflow.config.schema import ChainPlan, RunConfig, Tables, length_of
from latflow.config.sections import Section, arguments_of
from latflow.config.stages import BesideConfig, ChainConfig
from latflow.errors import ConfigError
from latflow.memory import installed_memory

if TYPE_CHECKING:
    from latflow.theories import Action


def checked(tables: Tables, training: Section, given: dict[str, Given] | None = None) -> RunConfig:
    """The configuration that tables describe, after a look at all that they name.

    Args:
        tables: of the file.
        training: its table [training], checked for itself.
        given: the "action" and the "model" where they were made in Python.

    Raises:
        ConfigError: naming the section and the key at fault.
    """
    given = given or {}
    action_part: Buildable = given.get("action") or part("theories", "action", tables.action)
    model_part: Buildable | None = given.get("model")
    if model_part is None and tables.model is not None:
        model_part = part("densities", "model", tables.model)
    action = built_action(action_part)
    sampling = (
        None if model_part is None else _plan("model", "sampling", tables.sampling, tables.sampling.kernels)
    )
    config = RunConfig(
        name=tables.name,
        description=tables.description,
        seed=tables.seed,
        action=action_part,
        model=model_part,
        training=None if model_part is None else training,
        sampling=sampling,
        beside=_beside(tables.beside, action.established),
        save_fields=tables.sampling.save_fields,
        compute=tables.compute,
        reference=tables.reference,
    )
    _check_memory(config, action)
    if model_part is None:
        _check_without_model(tables, config)
    else:
        density = _built_model(model_part, action)
        _check_training(training, action, density)
        assert config.sampling is not None
        _check_chain(config.sampling, action, density)
    if config.beside is not None:
        _check_chain(config.beside, action, None)
    check_reference(config.reference, action)
    return config


def check_reference(reference: Collection[str], action: "Action") -> None:
    """Known numbers have the names of observables.

    Raises:
        ConfigError: naming those that do not.
    """
    labels = [observable.name for observable in action.observables if observable.label]
    if unknown := [name for name in reference if name not in labels]:
        raise ConfigError(f"reference: expected names out of {', '.join(labels)}, got {', '.join(unknown)}")


def built_action(described: Buildable) -> "Action":
    """The theory, with all that a theory must have.

    Raises:
        ConfigError: naming what is missing, or the numbers for which exp(−S) cannot be normalised.
    """
    from latflow.fields import FieldKind
    from latflow.lattice import checked_lattice
    from latflow.theories import Action

    action = described.build()
    what = type(action).__name__
    if not isinstance(action, Action):
        raise ConfigError(
            f"{described.place}: expected a theory, a subclass of latflow.actions.Action, got {what}"
        )
    if not isinstance(getattr(action, "kind", None), FieldKind):
        raise ConfigError(
            f"{described.place}: expected {what} to have a `kind` of field, such as latflow.fields.SCALAR, "
            f"got {getattr(action, 'kind', None)!r}"
        )
    try:
        checked_lattice(getattr(action, "lattice", ()))
        action.check_proper()
    except ValueError as error:
        raise ConfigError(f"{described.place}: {what}: {error}") from error
    return action


def built_model(described: Buildable, action: "Action", **supplied: Any) -> Any:
    """The density of a run: `supplied` may hold the generator of its initial weights."""
    return described.build(lattice=action.lattice, kind=action.kind, action=action, **supplied)


def _built_model(described: Buildable, action: "Action") -> Any:
    density = built_model(described, action)
    kind = getattr(density, "kind", None)
    if kind is not None and kind != action.kind:
        raise ConfigError(
            f"{described.place}: expected a model for the kind of field of this action, {action.kind}, "
            f"got one for {kind}"
        )
    if not (hasattr(density, "sample") or hasattr(density, "draws")):
        raise ConfigError(
            f"{described.place}: expected a density with `sample` and `log_prob`, or a weighted sampler with "
            f"`draws`, got {type(density).__name__}"
        )
    for name in getattr(density, "symmetries", ()):
        if name == "z2" and not action.z2_symmetric:
            raise ConfigError(
                f"{described.place}: expected z2 = false for an action without the symmetry S(−x) = S(x), "
                "got a model that has it"
            )
    return density


def _check_memory(config: RunConfig, action: "Action") -> None:
    """The fields of a step fit into the memory of this machine, which at least holds their numbers."""
    if (memory := installed_memory()) is None:
        return
    size = math.prod(action.field_shape) * (8 if config.compute.dtype == "float64" else 4)
    counts = {}
    if config.training is not None:
        counts["training.batch"] = config.training.sub_batch or config.training.batch
    for place, plan in (("sampling", config.sampling), ("beside", config.beside)):
        if plan is not None:
            counts[f"{place}.chains"] = plan.chains
    for key, count in counts.items():
        if count * size > memory:
            raise ConfigError(
                f"{key}: {count} configurations of {size} bytes are {count * size / 2**30:.3g} GiB, and this "
                f"machine has {memory / 2**30:.3g}: expected at most {memory // size}"
            )


def _check_without_model(tables: Tables, config: RunConfig) -> None:
    """There is a chain, and nothing is said of a model that is not there."""
    if config.beside is None:
        raise ConfigError("expected a [model], or an established sampler in [beside], got neither")
    of_chain = tables.sampling.model_fields_set - {"save_fields"}
    if said := [*(f"training.{key}" for key in tables.training), *(f"sampling.{key}" for key in of_chain)]:
        raise ConfigError(
            f"expected a [model] for {said[0]}, got none: the chain of the established sampler has its "
            "settings in [beside]"
        )


def _check_training(training: Any, action: "Action", density: Any) -> None:
    import torch
    from torch import nn

    from latflow.densities.flows.recomputed import recomputed
    from latflow.estimators import ESTIMATORS, estimator_of
    from latflow.training.optimizers import grouped, make_optimizer

    try:
        estimator = estimator_of(training.estimator, training.estimator_options)
    except ValueError as error:
        place = "estimator_options" if training.estimator in ESTIMATORS else "estimator"
        raise ConfigError(f"training.{place}: {error}") from error
    if estimator.needs_force and action.kind.manifold is None:
        legal = [
            name for name, one in ESTIMATORS.items() if not one.needs_force and one.takes(density, action)
        ]
        raise ConfigError(
            f"training.estimator: a discrete field ({action.kind}) has no derivative: expected an estimator "
            f"out of {', '.join(legal)}, got {training.estimator}"
        )
    try:
        arguments = arguments_of(training)
    except ValueError as error:
        raise ConfigError(f"training.{error}") from error
    anneal = arguments.get("anneal")
    try:
        estimator.check(density, action if anneal is None else anneal.action(action, 0))
    except ValueError as error:
        raise ConfigError(f"training.estimator: {error}") from error
    try:
        options = arguments["optimizer"], [nn.Parameter(torch.zeros(1))], training.learning_rate
        make_optimizer(*options, arguments["optimizer_options"])
    except ValueError as error:
        raise ConfigError(f"training.optimizer: {error}") from error
    for name, what in (("anneal", "of annealing"), ("curriculum", "on other lattices")):
        first = arguments.get(name)
        if first is not None and first.total >= training.steps:
            raise ConfigError(
                f"training.{name}.steps: expected fewer steps {what} than of training, got {first.total} and "
                f"{training.steps}"
            )
    if arguments.get("curriculum") is not None:
        try:
            arguments["curriculum"].parts(density, action)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"training.curriculum: {error}") from error
    try:
        if training.recompute:
            recomputed(density)
    except ValueError as error:
        raise ConfigError(f"training.recompute: {error}") from error
    try:
        if isinstance(density, nn.Module):
            grouped(density, arguments["rate_factors"])
    except ValueError as error:
        raise ConfigError(f"training.rate_factors: {error}") from error


def _check_chain(plan: ChainPlan, action: "Action", density: Any) -> None:
    """Everything in it can be built, and it reaches all configurations."""
    from latflow.samplers import Sampler

    samplers = {}
    for name, kernel in plan.kernels.items():
        samplers[name] = kernel.build(action=action, density=density)
        if not isinstance(samplers[name], Sampler):
            raise ConfigError(
                f"{kernel.place}: expected a sampler, a subclass of latflow.samplers.Sampler, got "
                f"{type(samplers[name]).__name__}"
            )
        try:
            samplers[name].check_chains(plan.chains)
        except ValueError as error:
            raise ConfigError(f"{kernel.place}: {error}{where_in_foreign(error)}") from error
    several = len(samplers) > 1 or any(number > 1 for number in plan.repeats.values())
    if several and any(one.proposes for one in samplers.values()) and not hasattr(density, "log_prob"):
        raise ConfigError(
            f"{plan.name}: expected a model that can evaluate, with `log_prob`, for proposals beside "
            f"other kernels, got {type(density).__name__}"
        )
    if not any(sampler.ergodic for sampler in samplers.values()):
        raise ConfigError(
            f"{plan.name}: expected a kernel that reaches all configurations beside {', '.join(samplers)}, "
            "such as hmc"
        )


def check_kernels(place: str, section: ChainConfig, kernels: Collection[str] = ()) -> None:
    """Each table in the section of a chain belongs to a kernel.

    Args:
        place: the name of the section.
        section: it.
        kernels: those of the chain where they are known; any table may belong to one where they are not.

    Raises:
        ConfigError: naming the key that does not.
    """
    for name, table in section.tables().items():
        if name not in kernels if kernels else not isinstance(table, dict):
            known = [*type(section).model_fields, *kernels]
            raise ConfigError(f"{place}.{name}: {unknown_key(name, known)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{place}.{name}: expected the settings of the kernel {name}, got {table!r}")
        repeat = table.get("repeat", 1)
        if not isinstance(repeat, int) or isinstance(repeat, bool) or repeat < 1:
            raise ConfigError(f"{place}.{name}.repeat: expected a whole number of at least 1, got {repeat!r}")


def _beside(section: BesideConfig, established: Any) -> ChainPlan | None:
    if isinstance(established, str):
        raise ConfigError(f"beside: expected `established` of the theory as a tuple, got {established!r}")
    kernels = section.kernels or established
    if not section.enabled or not kernels:
        return None
    return replace(_plan("beside", "beside", section, kernels), start=section.start)


def _plan(name: str, place: str, section: ChainConfig, samplers: tuple[str, ...]) -> ChainPlan:
    """The plan of a chain; a kernel has the type of its name, where its table says no other one."""
    types = {sampler.rpartition(":")[2]: sampler for sampler in samplers}
    check_kernels(place, section, types)
    kernels: dict[str, Buildable] = {}
    repeats = {}
    for kernel, sampler in types.items():
        settings = {"type": sampler, **section.tables().get(kernel, {})}
        repeats[kernel] = settings.pop("repeat", 1)
        kernels[kernel] = part("samplers", f"{place}.{kernel}", settings, ("repeat",))
    return ChainPlan(name, **length_of(section), kernels=kernels, repeats=repeats)
