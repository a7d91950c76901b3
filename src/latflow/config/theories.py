"""A theory alone, named by whatever knows one, on a lattice that may follow from configurations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latflow.config.checking import built_action
from latflow.config.parts import PYTHON, part
from latflow.config.reading import changed, presets, table_of
from latflow.errors import ConfigError
from latflow.registry import located, names

if TYPE_CHECKING:
    from latflow.theories import Action

_CONFIG = "config.toml"


@dataclass(frozen=True)
class NamedTheory:
    """A theory by the section that gives it, which may leave out the lattice.

    Attributes:
        table: the section [action].
        reference: known numbers that stand beside it.
        source: where it stands.
    """

    table: Mapping[str, Any]
    reference: Mapping[str, str] = field(default_factory=dict)
    source: str = "action"

    def build(self, shapes: Sequence[tuple[int, ...]] = ()) -> "Action":
        """The theory; on the lattice of an array of configurations where its section says none.

        Args:
            shapes: of arrays that may hold configurations, (number, …) or (chains, number, …).

        Raises:
            ConfigError: for keys or values that are not legal, and when no lattice, or several, would fit.
        """
        try:
            return self._built(dict(self.table))
        except ConfigError:
            if "lattice" in self.table or not shapes:
                raise
        refused: list[ConfigError] = []
        found = {action.lattice: action for action in self._fitting(shapes, refused)}
        listed = "; ".join(map(str, shapes))
        if len(found) == 1:
            return next(iter(found.values()))
        if not found and refused:
            raise refused[-1]
        if not found:
            raise ConfigError(
                f"{self.source}: expected configurations of this theory, (number, …) or (chains, number, …), "
                f"got arrays {listed}"
            )
        raise ConfigError(
            f"{self.source}: the lattice does not follow from arrays {listed} without doubt, it may be "
            f"any of {', '.join(map(str, found))}: say it, as in -o 'action.lattice=[16, 16]'"
        )

    def _built(self, table: dict[str, Any]) -> "Action":
        try:
            return built_action(part("theories", "action", table))
        except ConfigError as error:
            raise ConfigError(f"{self.source}: {error}") from error

    def _fitting(self, shapes: Sequence[tuple[int, ...]], refused: list[ConfigError]) -> "list[Action]":
        """The theory on each lattice on which an array holds configurations of it.

        An array of three axes is one of configurations on a plane, as published ensembles are, rather than
        chains of a theory on a line. What is wrong with the theory on all lattices is put to `refused`.
        """
        found, errors, built = [], [], False
        for shape in shapes:
            fit = []
            for leading in (1, 2):
                for before in range(leading, len(shape)):
                    sides = list(shape[before:])
                    try:
                        action = self._built({**self.table, "lattice": sides})
                    except ConfigError as error:
                        errors.append(error)
                        continue
                    built = True
                    if tuple(action.field_shape) == tuple(shape[leading:]):
                        fit.append(action)
            planes = [action for action in fit if len(action.lattice) > 1]
            found += planes if len(shape) == 3 and planes else fit
        refused += [] if built else errors
        return found


def named_theory(source: str, overrides: Sequence[str] = ()) -> NamedTheory:
    """The theory of a preset, a TOML file, or the folder of a run, or a registered type or one's own.

    Args:
        source: as the command line has it: "phi4-8x8", "own.toml", "runs/x", "hopping_phi4", "own.py:Mine".
        overrides: changes, "action.beta=0.7" each; "action.lattice=null" leaves the lattice to the data.

    Raises:
        ConfigError: when there is nothing of that name, or no section [action] in it.
    """
    path = Path(source)
    if source in presets() or path.is_file() or (path / _CONFIG).is_file():
        file = presets().get(source, path)
        table = table_of(file / _CONFIG if file.is_dir() else file, overrides)
    elif source in names("theories") or ":" in source:
        table = changed({"action": {"type": located(source, Path())}}, overrides)
    else:
        raise ConfigError(
            f"expected a preset, a TOML file, the folder of a run, or a theory out of "
            f"{', '.join(names('theories'))} or one of your own as file.py:Name, got {source!r:.200}"
        )
    return theory_of(table, source)


def theory_of(table: Mapping[str, Any], source: str) -> NamedTheory:
    """The theory in the tables of a configuration.

    Raises:
        ConfigError: when there is none, or it was made in Python.
    """
    action, reference = table.get("action"), table.get("reference", {})
    if not isinstance(action, dict) or "type" not in action:
        raise ConfigError(f"{source}: expected a section [action] with a key 'type'")
    if action["type"] == PYTHON:
        raise ConfigError(
            f"{source}: its action was made in Python ({action.get('object', '')}): judge in Python, too, by "
            "latflow.judge(path, action)"
        )
    if not isinstance(reference, dict) or not all(isinstance(text, str) for text in reference.values()):
        raise ConfigError(f'{source}: reference: expected numbers as strings, such as "0.31498(72)"')
    return NamedTheory(action, reference, source)
