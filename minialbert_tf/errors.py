"""Errors that a user can act on."""


class InputError(ValueError):
    """Bad input: the message is one line that states the rule and what was received.

    The command line prints it without a traceback and exits with status 2.
    """


class CheckpointError(InputError):
    """A checkpoint that cannot be read, is not allowed, or does not fit the model."""


class DataError(InputError):
    """A corpus or table that breaks its format; the message names the file and the line."""


class WorkerError(InputError):
    """A process of ours that died, most often because memory ran out; what was done until then is kept."""
