"""The figures of one run, each with the words that belong to it, or the reason why it cannot be drawn yet."""

import warnings
from functools import partial

from latflow.errors import LatflowError, UnreliableErrorWarning
from latflow.observables.base import Observable
from latflow.report import chain_plates, distribution_plates, field_plates, training_plates
from latflow.report.material import Material
from latflow.report.phrases import capital
from latflow.report.plate import Builder, Plate
from latflow.theories import Action


def plates(material: Material) -> list[Plate]:
    """All figures of the page, in its order; those that cannot be drawn say why."""
    drawn = []
    for name, (title, build) in builders(material.action, with_model=material.with_model).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnreliableErrorWarning)  # of which the verdict tells
                figure, alt, caption = build(material)
        except (LatflowError, ValueError) as error:
            drawn.append(Plate(name, title, None, "", f"No figure: {error}"))
        else:
            drawn.append(Plate(name, title, figure, alt, caption))
    return drawn


def builders(action: Action, *, with_model: bool = True) -> dict[str, tuple[str, Builder]]:
    """The plates of a theory by name, each with its title, in the order of the page.

    They follow from the records of its observables: what has sectors, what is slow, what is to be shown.

    Args:
        action: the theory.
        with_model: whether a run of it has a model, whose training and weights are shown.
    """
    observables = action.observables
    recorded = [one for one in observables if one.function is not None]
    numbers = [one for one in recorded if not one.axes]
    slow, *slower = chain_plates.slow_ones(observables)
    of_model: dict[str, tuple[str, Builder]] = {
        "training": ("Training", training_plates.training),
        "log_weights": ("Weights of the proposals", training_plates.weights),
        **{
            f"{one.name}_weights": (
                f"Weights of the {sectors.title}",
                partial(training_plates.sector_weights, observable=one, sectors=sectors),
            )
            for one in numbers
            if (sectors := one.sectors) is not None and _tells_weights(action, one)
        },
    }
    return {
        **(of_model if with_model else {}),
        "history": ("Monte Carlo history", chain_plates.history),
        **{
            f"{one.name}_history": (
                _title(one),
                partial(chain_plates.sector_history, observable=one, sectors=sectors),
            )
            for one in numbers
            if (sectors := one.sectors) is not None and _tells_history(one)
        },
        **{
            one.name: (
                f"Distribution of {one.in_words}",
                partial(distribution_plates.distribution, observable=one),
            )
            for one in numbers
            if distribution_plates.has_distribution(one)
        },
        "autocorrelation": ("Autocorrelation", partial(chain_plates.autocorrelation_of, observable=slow)),
        **{
            f"autocorrelation_{one.name}": (
                f"Autocorrelation of {one.in_words}",
                partial(chain_plates.autocorrelation_of, observable=one),
            )
            for one in slower
        },
        **{
            one.name: (field_plates.title_of(one), partial(field_plates.correlator, observable=one))
            for one in recorded
            if one.axes == ("time",)
        },
        "configurations": ("Configurations", field_plates.configurations),
    }


def _tells_weights(action: Action, observable: Observable) -> bool:
    """Whether weights differ by sector in a way that a symmetry does not tell at once."""
    sectors = observable.sectors
    return sectors is not None and (sectors.equal is None or sectors.equal > 2 or not action.z2_symmetric)


def _tells_history(observable: Observable) -> bool:
    """Whether the history of the sectors tells what no distribution does, or tells it by whole numbers."""
    return chain_plates.is_whole(observable) or not distribution_plates.has_distribution(observable)


def _title(observable: Observable) -> str:
    return capital(observable.name.replace("_", " "))
