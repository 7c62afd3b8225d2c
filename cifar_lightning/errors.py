"""What a user can be told instead of a traceback: one line (what, where, the fix) and an exit code.

Imports nothing: every room may raise these, and the CLI turns them into text before torch is loaded.
"""


class UserError(Exception):
    """A failure that the user can mend. Its text is one line; `exit_code` is what the process returns."""

    exit_code = 1


class ConfigError(UserError):
    """A wrong key, type, value or combination in flags or YAML."""

    exit_code = 2


class DataError(UserError):
    """CIFAR-10 is missing, incomplete, damaged or cannot be fetched."""

    exit_code = 3


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, unsafe, or belongs to another architecture."""

    exit_code = 4


class NonFiniteError(UserError):
    """The loss stopped being a number."""

    exit_code = 5


class OutputError(UserError):
    """A run's folder or file cannot be written or read."""

    exit_code = 6


class PictureError(UserError):
    """A picture cannot be read. The text is the reason alone: whoever knows the file's name puts it in front."""

    exit_code = 6
