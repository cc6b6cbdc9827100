"""One family of errors whose text is meant for the person at the keyboard."""

from __future__ import annotations


class PracticumError(Exception):
    """What is wrong, where, and what to do, in one sentence. The command prints it and exits
    with ``exit_code`` (1 failed, 2 usage)."""

    exit_code = 1


class UsageError(PracticumError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class ConfigError(UsageError):
    """cluster.toml, or a file beside it, says something impossible."""
