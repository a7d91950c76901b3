"""Training as an iterator of records, which its owner logs, stops, checkpoints and resumes."""

from latflow.training.annealing import Anneal
from latflow.training.schedules import Schedule, ScheduleName
from latflow.training.trainer import OptimizerName, PrecisionName, Record, Trainer, train
from latflow.training.world import World, joined

__all__ = [
    "Anneal",
    "OptimizerName",
    "PrecisionName",
    "Record",
    "Schedule",
    "ScheduleName",
    "Trainer",
    "World",
    "joined",
    "train",
]
