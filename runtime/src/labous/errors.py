"""What can go wrong because of what a user gave us.

Every message is one sentence that says what is wrong, where, and what to do. The command line prints it without a
traceback and exits non-zero; a program catches :class:`LabousError`.
"""


class LabousError(Exception):
    """Base of every error that a user's input can cause."""


class FrontendError(LabousError, ValueError):
    """A front end with an unknown, missing or impossible constant."""


class SamplesError(LabousError, ValueError):
    """Samples that no spectrogram can be computed from: wrong shape, NaN or infinite."""


class BundleError(LabousError):
    """A bundle that is missing, damaged, incomplete or newer than this runtime."""


class RecordingError(LabousError):
    """A recording that cannot be read, is empty, silent or not finite."""


class EngineError(LabousError):
    """An engine (Wasmtime, LiteRT, …) that is not installed or refuses the file it was given."""


class PipelineError(LabousError):
    """A pipeline file that is missing, not TOML, or asks for what cannot be."""


class NodeError(LabousError):
    """A node that cannot do its work: a device, a server, a disk, a program or a module that fails."""
