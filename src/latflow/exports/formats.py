"""The formats in which a run goes out: one entry of a table each."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latflow.errors import UnreliableErrorWarning
from latflow.exports.arrays import write_arrays
from latflow.exports.obs import write_obs
from latflow.exports.posterior import write_posterior
from latflow.runs import ChainName, Group, Run
from latflow.runs.ensembles import export_configurations


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        suffixes: with which names of its files end.
        write: writes groups of a run to a file, whole or not at all.
        record: whether it is one of the run, which has chains only on request.
    """

    suffixes: tuple[str, ...]
    write: Callable[[Run, Path, Sequence[Group]], None]
    record: bool = False


def _write_netcdf(run: Run, target: Path, groups: Sequence[Group]) -> None:
    run.export(target, groups)


def _write_configurations(run: Run, target: Path, groups: Sequence[Group]) -> None:
    export_configurations(run, target, "model" if "model" in groups else "beside")


def _write_record(run: Run, target: Path, groups: Sequence[Group]) -> None:
    from latflow.exports.record import write_record  # with the report, which loads matplotlib

    write_record(run, target, groups)


FORMATS: dict[str, Format] = {
    "netcdf": Format((".nc",), _write_netcdf),
    "hdf5": Format((".h5", ".hdf5"), _write_netcdf),
    "numpy": Format((".npz",), write_arrays),
    "configurations": Format((".npz",), _write_configurations),
    "pyerrors": Format((".json.gz",), write_obs),
    "arviz": Format((".nc",), write_posterior),
    "archive": Format((".zip",), _write_record, record=True),
}
"""The first with the suffix of a file is its format, unless another is named."""


def format_of(target: Path, to: str | None = None) -> Format:
    """The format of a file, by its name or by that of the format.

    Raises:
        ValueError: for a name that no format has, and a file that does not end as those of its format do.
    """
    if to is not None and to not in FORMATS:
        raise ValueError(f"expected a format out of {', '.join(FORMATS)}, got {to!r}")
    tried = {to: FORMATS[to]} if to is not None else FORMATS
    for found in tried.values():
        if target.name.endswith(found.suffixes):
            return found
    endings = ", ".join(dict.fromkeys(suffix for one in tried.values() for suffix in one.suffixes))
    raise ValueError(f"expected a file name that ends in {endings}, got {target.name!r}")


def export(
    run: Run,
    target: Path | str,
    to: str | None = None,
    chain: ChainName | None = None,
    *,
    with_chains: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the chains of a run to a file for other tools, or a record of it, whole or not at all.

    Args:
        run: the run.
        target: the file; its name tells the format, one of `FORMATS`.
        to: the format by its name, where several have one ending.
        chain: "model" or "beside", to write that alone; all if None.
        with_chains: whether the record for an archive has the chains, and the weights of the model.
        overwrite: whether a file that is there is replaced.

    Raises:
        ValueError: for a name of no format, a chain that the run does not have, a chain too short for the
            errors that the format asks for, and a file that is there.
        RunFolderError: when there is no chain yet, or something is missing or damaged.
    """
    target = Path(target)
    chosen = format_of(target, to)
    if target.exists() and not overwrite:
        raise ValueError(f"{target} is there already")
    if with_chains and not chosen.record:
        raise ValueError(
            f"expected a record for an archive to put chains into, got {target.name!r}, which is them"
        )
    written = run.written()
    groups: list[Group] = [
        group for group in written if chain is None or (group == "beside") == (chain == "beside")
    ]
    if not groups:
        raise ValueError(f"expected a chain out of {', '.join(written)} in {run.path}, got {chain!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)  # the files hold them
        chosen.write(run, target, groups if with_chains or not chosen.record else ())
