"""Chains for pyerrors: a json.gz file that `pyerrors.input.json.load_json` and `load_json_dict` open.

The file is a dictionary: by "model", "beside" and "draws" what was recorded ("series") and the rows of
latflow's own table ("results"), each by its name. All of them are `Obs`; arrays such as correlators are
arrays of them. The chains are replica of an ensemble, "NAME-model-1a2b3c4d|r00", and their steps after
thermalisation the configurations 1, 2, …; the digits are a digest of the first numbers, so that two runs are
never taken for one. The `tag` of an Obs has its name and label, and where latflow gives an error also that
with τ and the arguments by which the Γ-method finds it again: `obs.gamma_method(**obs.tag["gamma_method"])`.

A result is linearised in what each configuration adds to it, O − ⟨O⟩ for an average. latflow takes these
about the mean of all chains, pyerrors about that of each, which hides that chains disagree: its errors are
too small by a share of about W/steps, W the window of the Γ-method. The fluctuations of a result are
therefore scaled by its "scale", which is 1 for one chain, so that pyerrors finds the error of latflow, also
where a chain alternates (τ < ½); those of a series are as they were recorded. A count that never varied has
no fluctuations: the error of one count is a constant input beside the chain, `pyerrors.cov_Obs` of value zero
with a name of its own, and goes along into whatever is made of the result.

The draws of a model are independent of each other, and their series are averages over its density q. Averages
over the theory are `pyerrors.reweight(weight, [obs])` with the series "weight", w = exp(−S)/q up to the
factor of its tag, as the results have it; log Z is "log_scale" and the logarithm of its average. Of chains
that are sampled with the absolute value of their weight, the sign among the series is to be used in the same
way.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from latflow.analysis import Fluctuating, fluctuations, measure, scaled_weight
from latflow.analysis.autocorrelation import LEAST_STEPS_WITH_TAIL, load_pyerrors
from latflow.exports.origin import origin
from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.runs import Group, Run
from latflow.runs.provenance import plain
from latflow.storage import replacing
from latflow.validation.evidence import finite_draws, normalised
from latflow.validation.ways import OF_LOG_Z

_S = 2.0
"""The parameter of the automatic window, as in `latflow.analysis`."""


def write_obs(run: Run, target: Path, groups: Sequence[Group]) -> None:
    """Write what a run has recorded, and its results, as `Obs` of pyerrors.

    Raises:
        ValueError: for a chain too short for an error, and for a name that does not end in .json.gz.
    """
    content, notes = {}, {}
    for group in groups:
        name = "draws" if group == "proposals" else group
        content[name], notes[name] = _exported(run, group)
    description = origin(run) | {"left_out": notes}
    with replacing(target) as temporary, TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        file = Path(folder) / target.name  # gzip writes the name into the file
        load_pyerrors().input.json.dump_dict_to_json(content, str(file), description, indent=0)
        file.replace(temporary)


def _exported(run: Run, group: Group) -> tuple[dict[str, Any], dict[str, str]]:
    """The series and results of a group, and why others are left out."""
    names = {one.name: one for one in run.action.observables}
    series = run.series(group)
    ensemble = f"{run.config.name}-{'draws' if group == 'proposals' else group}-{_known_by(series)}"
    log_weight, numbers = None, np.arange(1, len(next(iter(series.values()))) + 1)
    if group == "proposals":
        places = np.arange(1, series["log_weight"].size + 1).reshape(series["log_weight"].shape)
        draws = finite_draws({**series, "place": places})[0]
        numbers, log_weight = draws["place"], draws["log_weight"][:, None]
        series = {name: values[:, None] for name, values in draws.items() if name != "place"}
    sampled = _Sampled(ensemble, numbers, group != "proposals")
    taken = {name: values for name, values in series.items() if name in names}
    if log_weight is not None:
        taken["weight"] = scaled_weight(log_weight)
    found: dict[str, dict[str, Any]] = {"series": {}, "results": {}}
    left_out: dict[str, str] = {}
    for name, values in taken.items():
        if not np.isfinite(values).all():
            left_out[f"series {name}"] = "not all numbers are finite"
            continue
        more = {"log_scale": float(log_weight.max())} if name == "weight" and log_weight is not None else {}
        found["series"][name] = sampled.series(name, values, names.get(name), more)
    for name, row in _rows(run, series, log_weight).items():
        if isinstance(row, Fluctuating) and np.isfinite(row.fluctuation).all() and math.isfinite(row.value):
            one = names[name]
            reweighted = one.reweighted and run.action.reweighting is not None
            found["results"][name] = sampled.result(name, one.label, row, reweighted)
        else:
            left_out[f"results {name}"] = f"{row}, not a number with known fluctuations"
    return found, left_out


def _rows(
    run: Run, series: Mapping[str, np.ndarray], log_weight: np.ndarray | None
) -> dict[str, Measurement]:
    """The rows of latflow's table for a group."""
    action = run.action
    factor = None if action.reweighting is None else series[action.reweighting]
    rows = fluctuations(series, action.observables, log_weight, factor)
    hidden = () if log_weight is None or normalised(run) else OF_LOG_Z
    return {name: row for name, row in rows.items() if name not in hidden}


def _known_by(series: Mapping[str, np.ndarray]) -> str:
    """A few digits by which the numbers of a chain are known, however long it grows."""
    digest = hashlib.sha256()
    for name, values in sorted(series.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values[0]).tobytes())
    return digest.hexdigest()[:8]


@dataclass(frozen=True)
class _Sampled:
    """Configurations on which `Obs` are defined.

    Attributes:
        ensemble: its name.
        numbers: of the configurations, the same for every chain.
        correlated: whether they are steps of Markov chains.
    """

    ensemble: str
    numbers: np.ndarray
    correlated: bool

    def series(
        self, name: str, values: np.ndarray, observable: Observable | None, more: Mapping[str, Any]
    ) -> Any:
        """What was recorded, (steps, chains, …): an `Obs`, or an array of them."""
        label = name if observable is None else observable.in_words
        if values.ndim > 2:
            places = list(np.ndindex(values.shape[2:]))
            array = np.empty(values.shape[2:], dtype=object)
            for place in places:
                obs = self._obs(values[:, :, *place])
                obs.tag = {"name": name, "label": label, "component": list(place)}
                array[place] = obs
            return array
        average = measure(values, None if self.correlated else np.zeros(values.shape), name)
        obs = self._obs(values)
        obs.tag = _tag(name, label, average, self._analysed(obs)) | dict(more)
        return obs

    def result(self, name: str, label: str, row: Fluctuating, reweighted: bool) -> Any:
        """A row of the table as an `Obs`."""
        found = self._obs(row.value + row.fluctuation)
        how, scale, varied = self._analysed(found, row.tau_exp), 1.0, bool(row.fluctuation.any())
        if varied and found.dvalue > 0 and row.error > 0:  # an error that is nan cannot be met
            scale = row.error / found.dvalue
        obs = self._obs(row.value + scale * row.fluctuation)
        if not varied and row.error > 0:
            obs = obs + load_pyerrors().cov_Obs(0.0, row.error**2, f"{self.ensemble}-one-count-{name}")
        obs.reweighted = reweighted or not self.correlated
        obs.tag = _tag(name, label, row, how) | {"scale": scale}
        return obs

    def _obs(self, values: np.ndarray) -> Any:
        columns = list(np.ascontiguousarray(values.T, dtype=np.float64))
        digits = len(str(len(columns) - 1))
        names = [f"{self.ensemble}|r{i:0{digits}d}" for i in range(len(columns))]
        return load_pyerrors().Obs(columns, names, idl=[self.numbers] * len(columns))

    def _analysed(self, obs: Any, tau_exp: float = 0.0) -> dict[str, float]:
        """Analyse as latflow does, which takes the larger error of those with and without a tail."""
        hows = [{"S": _S}] if self.correlated else [{"S": 0.0}]
        if tau_exp > 0 and len(self.numbers) >= LEAST_STEPS_WITH_TAIL:
            hows.append({"S": _S, "tau_exp": tau_exp})
        errors = []
        for how in hows:
            obs.gamma_method(**how)
            errors.append(obs.dvalue)
        best = hows[int(np.argmax(errors))]
        obs.gamma_method(**best)
        return best


def _tag(name: str, label: str, average: Measurement, how: Mapping[str, float]) -> dict[str, Any]:
    """What an `Obs` says of itself; null stands for numbers that are not finite."""
    numbers = {"value": average.value, "error": average.error, "tau_int": average.tau_int}
    told = {"warning": average.warning} if average.warning else {}
    return {"name": name, "label": label, "gamma_method": dict(how), **plain(numbers), **told}
