"""What can go wrong with an import, each told in a sentence."""

from labous.errors import LabousError


class BirdNetImportError(LabousError):
    """A source, a table or a place that an import cannot use."""


class GraphError(BirdNetImportError):
    """A graph that is not of the kind that is understood; the message says what differs."""
