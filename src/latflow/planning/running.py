"""The run of the method that a plan recommends, and whether it reaches what was predicted."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latflow.analysis import Measurement
from latflow.config import RunConfig, parse_config
from latflow.errors import RunFolderError
from latflow.planning.outcome import Plan
from latflow.planning.pilot import Question
from latflow.planning.ranking import Row
from latflow.runs import Run
from latflow.runs.provenance import plain
from latflow.storage import write_text
from latflow.validation import Validation

_FILE = "plan.json"


@dataclass(frozen=True)
class Prediction:
    """What a plan has said of the run of its best method.

    Attributes:
        title: of the method.
        way: by which the run knows the number: "beside", "model", "weights".
        error: of the average, as a share of it where `relative`.
        relative: whether it is.
        seconds: by the clock, with error.
    """

    title: str
    way: str
    error: float
    relative: bool
    seconds: Measurement

    @classmethod
    def of(cls, question: Question, row: Row) -> "Prediction":
        """Of a row that is sound."""
        way = "weights" if row.weighted else "beside" if row.method.trained is None else "model"
        slower = row.clock / row.step.value
        seconds = Measurement(row.cost.value * slower, row.cost.error * slower)
        return cls(row.title, way, row.expected_error(question.error), question.relative, seconds)

    def reached(self, validation: Validation, observable: str) -> float:
        """The error that a run has reached, in the same terms.

        Raises:
            RunFolderError: when it does not know the number.
        """
        found = validation.way(self.way)
        if found is None or observable not in found.measurements:
            raise RunFolderError(f"the run has no {observable} by {self.title} yet")
        measured = found.measurements[observable]
        return measured.error / abs(measured.value) if self.relative else measured.error


def configured(config: RunConfig, row: Row) -> RunConfig:
    """The run of a method, to the steps that its row says."""
    method = row.method
    base = config if method.trained is None else method.trained.config
    table = base.table()
    chain = method.plan(row.steps, row.thermalisation).table()
    fields = {"save_fields": config.save_fields}
    if method.trained is None:
        table = {key: value for key, value in table.items() if key not in ("model", "training")}
        table |= {"sampling": fields, "beside": chain}
    else:
        table |= {"sampling": chain | fields, "beside": {"enabled": False}}
    table |= {"name": f"{config.name}-plan", "description": ""}
    return parse_config(table, "plan")


def begin(path: Path, config: RunConfig, plan: Plan, row: Row) -> Run:
    """The run of a method in a new folder, with the plan beside it in plan.json."""
    run = Run.create_or_resume(path, configured(config, row))
    prediction = Prediction.of(plan.question, row)
    told = plan.as_dict() | {"run": vars(prediction) | {"seconds": vars(prediction.seconds)}}
    told["asked"] = _asked(config, plan.question)
    write_text(path / _FILE, json.dumps(plain(told), indent=1, ensure_ascii=False) + "\n")
    return run


def begun(path: Path, config: RunConfig, question: Question) -> tuple[Run, Prediction] | None:
    """The run that an earlier plan of the same question has begun in a folder; None where there is none.

    Raises:
        RunFolderError: when another question was asked there, or its plan cannot be read.
    """
    file = path / _FILE
    if not file.exists():
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        asked, prediction = told["asked"], told["run"]
        seconds = Measurement(prediction["seconds"]["value"], prediction["seconds"]["error"])
        found = Prediction(**prediction | {"seconds": seconds})
    except ValueError as error:
        raise RunFolderError(f"{file} is damaged ({error}): remove it, or choose another folder") from error
    except (LookupError, TypeError) as error:
        raise RunFolderError(
            f"{file} is of another version of latflow ({error}): remove it, or choose another folder"
        ) from error
    if asked != plain(_asked(config, question)):
        raise RunFolderError(f"{path} holds the run of another plan: choose another folder by --out")
    return Run.open(path), found


def _asked(config: RunConfig, question: Question) -> dict[str, Any]:
    return {
        "action": config.action.table(),
        "observable": question.observable.name,
        "error": question.error,
        "relative": question.relative,
    }
