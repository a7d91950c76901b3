"""The figures of one run, each with the words that belong to it, or the reason why it cannot be drawn yet."""

from latflow.actions import Action
from latflow.errors import LatflowError
from latflow.report import gauge_plates, scalar_plates, spin_plates
from latflow.report.common_plates import Builder
from latflow.report.material import Material, Plate


def plates(material: Material) -> list[Plate]:
    """All figures of the page, in its order; those that cannot be drawn say why."""
    drawn = []
    for name, (title, build) in _builders(material.run.action).items():
        try:
            figure, alt, caption = build(material)
        except (LatflowError, ValueError) as error:
            drawn.append(Plate(name, title, None, "", f"No figure: {error}"))
        else:
            drawn.append(Plate(name, title, figure, alt, caption))
    return drawn


def _builders(action: Action) -> dict[str, tuple[str, Builder]]:
    """The plates for the kind of field."""
    match action.kind:
        case "gauge":
            return gauge_plates.plates_of(action)
        case "spin":
            return spin_plates.PLATES
        case _:
            return scalar_plates.PLATES
