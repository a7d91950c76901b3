"""Training as an iterator of records, which its owner logs, stops, checkpoints and resumes."""

from latflow.training.annealing import Anneal
from latflow.training.curriculum import Curriculum
from latflow.training.optimizers import OptimizerFactory, make_optimizer, optimizer_names
from latflow.training.precision import PrecisionName
from latflow.training.profiling import NodeType, StepProfile, profile_step
from latflow.training.schedules import Schedule, ScheduleName
from latflow.training.trainer import Record, Trainer, train
from latflow.training.world import World, joined

__all__ = [
    "Anneal",
    "Curriculum",
    "NodeType",
    "OptimizerFactory",
    "PrecisionName",
    "Record",
    "Schedule",
    "ScheduleName",
    "StepProfile",
    "Trainer",
    "World",
    "joined",
    "make_optimizer",
    "optimizer_names",
    "profile_step",
    "train",
]
