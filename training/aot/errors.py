"""What can go wrong ahead of time."""

from __future__ import annotations

from labous.errors import LabousError


class AotError(LabousError):
    """A model that cannot be built ahead of time; the message says where, or what the compiler did."""
