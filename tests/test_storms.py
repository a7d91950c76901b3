"""Steps that are not finite: skipped, then left behind with better weights at half the rate, or given up."""

import dataclasses

import pytest
import torch
from torch import Tensor

from latflow.errors import TrainingError
from latflow.theories import Phi4
from report_runs import gaussian_run


@dataclasses.dataclass(frozen=True)
class Cliff(Phi4):
    """φ⁴ theory that is not a number for fields beyond an edge."""

    edge: float = 5.5

    def __call__(self, x: Tensor) -> Tensor:
        s = super().__call__(x)
        return torch.where(x.flatten(1).abs().amax(1) < self.edge, s, s * torch.nan)


class Killed(BaseException):
    """The end of a process."""


# steps of 0.3 in the logarithm of the width overshoot that of the target, and go over the edge
STEEP = Cliff((4, 4), m2=-3.9, lam=0.005)
TRAINING = {"steps": 40, "checkpoint_every": 4, "learning_rate": 0.3, "max_skipped": 5}


def timeless(record):
    return {key: str(value) for key, value in record.items() if key != "seconds"}


def storm(path, **changes):
    return gaussian_run(path, STEEP, training=TRAINING | changes)


def test_a_training_that_is_lost_goes_back_to_better_weights_at_half_the_rate(tmp_path, caplog):
    run = storm(tmp_path / "run")
    run.train()
    history = run.history()
    skipped = [record["step"] for record in history if record["skipped"]]
    assert len(skipped) >= 5
    assert caplog.text.count("5 steps in a row were not finite: back to the weights of step 4") == 2
    rates = [record["learning_rate"] for record in history]
    assert rates[-1] == 0.3 / 4
    assert not history[-1]["skipped"]
    assert run.model("best").log_scale.isfinite().all()


@pytest.mark.parametrize("killed", [3, 12, 17])
def test_it_does_so_alike_after_a_kill(tmp_path, killed):
    whole, halting = storm(tmp_path / "whole"), storm(tmp_path / "halting")
    whole.train()

    def kill(record):
        if record.step == killed:
            raise Killed

    with pytest.raises(Killed):
        halting.train(kill)
    halting.train()
    assert [timeless(one) for one in halting.history()] == [timeless(one) for one in whole.history()]
    assert halting.model("best").log_scale == whole.model("best").log_scale


def test_a_storm_without_end_is_given_up_with_one_line(tmp_path):
    run = gaussian_run(tmp_path / "run", dataclasses.replace(STEEP, edge=2.5), training=TRAINING)
    with pytest.raises(TrainingError, match=r"step 21: 6 steps in a row.*learning rate lowered to 0.0375; a"):
        run.train()
    assert len(run.history()) == 20
