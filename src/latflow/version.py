"""The version, at the bottom of everything, so that no part looks up for it."""

__version__ = "0.1.0"
