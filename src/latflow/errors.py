"""Errors that a user can mend: each message says what was expected and what came."""


class LatflowError(Exception):
    """Base of the errors which the command line prints as one message, without a traceback."""


class ConfigError(LatflowError):
    """A configuration that cannot be read, or a key or a value that is not legal."""


class RunFolderError(LatflowError):
    """A folder that is no run, belongs to another run, or cannot be written."""


class CheckpointError(LatflowError):
    """A checkpoint that is missing, truncated, foreign, or of another model."""


class EnsembleError(LatflowError):
    """A file of configurations that cannot be read, is damaged, or does not fit the theory."""


class TrainingError(LatflowError):
    """A training that cannot go on, for example because the loss is not finite any more."""


class ProcessError(LatflowError):
    """What went wrong in one process of several that train together; that process alone tells of it."""


class ConvergenceError(LatflowError):
    """An iteration that has not come as close to its result as was asked for."""


class NearSingularWarning(UserWarning):
    """A matrix so close to a singular one that its determinant and inverse have few correct digits."""


class UnreliableErrorWarning(UserWarning):
    """An error of an average that its series cannot tell: too short a series, or chains that never moved."""
