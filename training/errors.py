"""Errors of the training side; the command line prints them as one sentence (see :mod:`training.config`)."""

from labous.errors import LabousError


class ConfigError(LabousError):
    """A key or value of the configuration that is unknown, missing or impossible."""


class StageError(LabousError):
    """A stage that cannot run because of what an earlier one left, or did not leave."""
