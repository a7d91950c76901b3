"""Planning: which method gives a wished error at the least cost, by pilots of all that serve a theory."""

from latflow.planning.models import Trained, Untrained, trained
from latflow.planning.outcome import Plan, in_words, rounded
from latflow.planning.pilot import Question
from latflow.planning.ranking import Row
from latflow.planning.running import Prediction, begin, begun
from latflow.planning.search import asked, plan

__all__ = [
    "Plan",
    "Prediction",
    "Question",
    "Row",
    "Trained",
    "Untrained",
    "asked",
    "begin",
    "begun",
    "in_words",
    "plan",
    "rounded",
    "trained",
]
