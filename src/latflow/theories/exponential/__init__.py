"""The toy model of gradient estimators."""

from latflow.theories.exponential.action import Exponential

__all__ = ["Exponential"]
