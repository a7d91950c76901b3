"""`latflow judge`: configurations that were made elsewhere, held against everything that is known."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latflow.cli.arguments import Overrides, user_path
from latflow.cli.explain import exit_by
from latflow.errors import ConfigError, EnsembleError

if TYPE_CHECKING:
    from latflow.config.theories import NamedTheory


def judge(
    configurations: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIGS",
            help="A file of configurations: .npy, .npz, HDF5, NetCDF, or a folder of zarr.",
            parser=user_path,
        ),
    ],
    action: Annotated[
        str | None,
        typer.Option(
            "--action",
            "-a",
            metavar="PRESET|FILE|DIR|TYPE",
            help="The theory: a preset, a TOML file, the folder of a run, or a type such as hopping_phi4 or "
            "own.py:Mine; what the side-car says if none.",
        ),
    ] = None,
    override: Overrides = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="NAME=VALUE",
            help="Reweight to another coupling, such as beta=0.69, or to several, beta=0.69,lam=0.4.",
        ),
    ] = None,
    array: Annotated[
        str | None, typer.Option("--array", metavar="NAME", help="Which array of the file, if several fit.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="The folder of the report; judged/NAME if none.", parser=user_path
        ),
    ] = None,
) -> None:
    """Judge configurations made elsewhere: exact results, symmetries, identities of the action; report."""
    from latflow.cli.verdict import print_reweighted, print_verdict
    from latflow.ensembles import stored_arrays
    from latflow.report.circumstances import theory
    from latflow.workflow import judge as judged
    from latflow.workflow import keep_judgement

    couplings = [_couplings(one) for one in at or ()]
    stored = [one for one in stored_arrays(configurations) if array in (None, one.name)]
    if not stored:
        raise EnsembleError(f"expected an array of numbers in {configurations}, found none{_called(array)}")
    named = _theory(configurations, action, override or [])
    built = named.build([one.shape for one in stored])
    folder = out or Path("judged") / configurations.resolve().name
    found = judged(configurations, built, array=array, reference=named.reference, couplings=couplings)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    page = keep_judgement(found, folder, command)
    print_verdict(theory(built)[0], found.validation)
    print_reweighted(found.reweighted)
    typer.echo(page)
    exit_by(found.validation.verdict)


def _theory(configurations: Path, action: str | None, overrides: list[str]) -> "NamedTheory":
    from latflow.config.reading import changed
    from latflow.config.theories import named_theory, theory_of
    from latflow.ensembles import side_car_of

    side_car = side_car_of(configurations)
    if action is not None:
        named = named_theory(action, overrides)
        lattice = None if side_car is None else side_car.action.get("lattice")
        return named if lattice is None else replace(named, table={"lattice": lattice, **named.table})
    if side_car is None or not side_car.action:
        raise ConfigError(
            f"expected --action, the theory: no side-car of {configurations}, a JSON file of the same name, "
            "says which it is"
        )
    named = str(side_car.action.get("type"))
    if ":" in named:  # code that comes with data is not run unasked
        raise ConfigError(f"{side_car.path} names code, {named!r:.80}: it is run where --action names it")
    return theory_of(changed({"action": dict(side_car.action)}, overrides), str(side_car.path))


def _called(array: str | None) -> str:
    return "" if array is None else f" called {array!r}"


def _couplings(text: str) -> dict[str, float]:
    """The numbers by name of "beta=0.69,lam=0.5"."""
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"expected --at NAME=VALUE with a number, such as beta=0.69, got {text!r:.80}")
    return found
