"""Every error of this program, grouped by what the caller should do about it.

    EtlError
    ├── ConfigurationError          fix the configuration, then start again      exit code 2
    │   ├── SettingsError           config.yaml or the environment
    │   ├── UsageError              an option, an argument, a file or a value
    │   ├── KeyringError            no keyring, or one that must not be used
    │   ├── TableError              the target table differs from config.yaml
    │   └── LoginRefused            the database refuses the connection: a password, a role, a name
    ├── Outage                      wait and try the same thing again            exit code 1
    │   ├── DatabaseUnavailable
    │   ├── QueueUnavailable
    │   └── PayloadsUnavailable     the bodies in S3
    ├── Stopped                     the run cannot go on; the rest is in the queue
    │   ├── DatabaseRefused         the database refuses the job itself          exit code 1
    │   ├── QueueRefused            SQS refuses the job itself                   exit code 1
    │   │   └── DeletesRefused      or only to delete what it has handled        exit code 1
    │   ├── PayloadsRefused         S3 refuses the bodies of messages            exit code 1
    │   ├── NoSentTimestamp         messages come without what a column needs    exit code 1
    │   ├── LastReceives            a dry run would use a message's last receives exit code 1
    │   ├── QuarantineBudget        too many messages failed a check             exit code 3
    │   ├── BatchRefused            a batch as a whole failed a check            exit code 3
    │   ├── CheckRaised             a check written in Python cannot be applied  exit code 1
    │   ├── LeftMessages            not released, on request                     exit code 1
    │   └── NotReconciled           the run's numbers do not add up: a bug       exit code 1
    ├── NotebookError               a cell of a notebook failed, so its page was not written
    ├── UnmaskError                 a token or sealed body that this keyring cannot open
    ├── OutputLost                  nobody reads standard output, or its disk is full
    └── EmbeddedError               a development service did not start or answer

Their messages never carry a value from an event, only ids, column names, check names and counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# JSON, a URL, or the base64 of a key: what is pasted where only a name should be.
_SECRET = re.compile(r"""[{"]|\w\w:/|[A-Za-z0-9+/]{86}==""", re.ASCII)
# What to do about a keyring that cannot be used. No error may suggest making a new one, because no
# other key opens the tokens.
RESTORE = "restore the copy of the keyring"

_MAX_NAME = 63  # characters; as long as a name in Postgres can be


def may_be_secret(name: str) -> bool:
    """Whether the name of a file or a secret looks like a keyring, a key or a URL instead."""
    return _SECRET.search(name) is not None


def shown_name(name: str) -> str:
    """Quote a name that somebody wrote in a configuration, unless it looks like something else."""
    if len(name) > _MAX_NAME or not name.isprintable() or may_be_secret(name):
        return "(a name that is not shown)"
    return repr(name)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that somebody may have meant; None if none is near."""
    import difflib

    words = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), words, n=1)
    return words[close[0]] if close else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word, or list them all."""
    known = list(known)
    meant = nearest(word, known)
    return f"; did you mean {meant!r}?" if meant else f"; known are {', '.join(known) or 'none'}"


class EtlError(Exception):
    """Any error that this program raises on purpose."""

    exit_code = 1
    stop_reason = "error"  # stored in etl.runs when this error ends a run


class ConfigurationError(EtlError):
    """The configuration is wrong; nothing was received."""

    exit_code = 2


class SettingsError(ConfigurationError):
    """A setting is missing, unknown or out of range."""


class UsageError(ConfigurationError):
    """A request that cannot be done, because of an option, an argument, a file or a value."""


class KeyringError(ConfigurationError):
    """The keyring is missing, malformed or too weak to use."""


class TableError(ConfigurationError):
    """The target table in the database differs from the configured columns."""


class LoginRefused(ConfigurationError):  # noqa: N818
    """Postgres refuses the connection as such, and would refuse it again."""

    stop_reason = "database refused"


class Outage(EtlError):  # noqa: N818  (a state of the world, not a mistake)
    """A service is away for now; the same call may succeed later."""


class DatabaseUnavailable(Outage):
    """Postgres cannot be reached, or asks to try again."""

    stop_reason = "database unavailable"


class QueueUnavailable(Outage):
    """SQS cannot be reached, or asks to try again."""

    stop_reason = "queue unavailable"


class PayloadsUnavailable(Outage):
    """S3, which has bodies of messages, cannot be reached, or asks to try again."""

    stop_reason = "S3 unavailable"


class Stopped(EtlError):  # noqa: N818
    """The run cannot go on; everything that it has not loaded is in the queue."""


class DatabaseRefused(Stopped):
    """Postgres refuses a statement as such: a privilege, a table or a column is missing."""

    stop_reason = "database refused"


class QueueRefused(Stopped):
    """SQS refuses a call as such: no such queue, no permission, no credentials."""

    stop_reason = "queue refused"


class DeletesRefused(QueueRefused):
    """SQS refuses to delete messages: each further run would receive the same ones again."""

    stop_reason = "deletes refused"


class PayloadsRefused(Stopped):
    """S3 refuses to give bodies of messages: no such bucket, no permission, no credentials."""

    stop_reason = "S3 refused"


class NoSentTimestamp(Stopped):
    """Messages come without the attribute that a column is made from."""

    stop_reason = "no SentTimestamp"


class LastReceives(Stopped):
    """A dry run would leave messages too few receives for the run that loads them."""

    stop_reason = "last receives"


class QuarantineBudget(Stopped):
    """More of the run's messages failed a check than the configuration allows.

    :param rejects: the rejects of the batch, as a frame; None if they are not known
    """

    exit_code = 3
    stop_reason = "quarantine budget"

    def __init__(self, message: str, rejects: Any = None) -> None:
        super().__init__(message)
        self.rejects = rejects


class BatchRefused(Stopped):
    """A batch as a whole failed a check of the configuration."""

    exit_code = 3
    stop_reason = "batch check"


class CheckRaised(Stopped):
    """A check written in Python raised an exception, or cannot be applied to the rows."""

    stop_reason = "python checks"


class NotReconciled(Stopped):
    """The run's counts do not add up."""

    stop_reason = "not reconciled"


class LeftMessages(Stopped):
    """Messages were not released, since whoever stopped the run did not want to wait for it."""


class NotebookError(EtlError):
    """A cell of a notebook failed."""


class UnmaskError(EtlError):
    """A token or sealed body was not made by this keyring for this column, or was changed.

    :param row: position of the first one, from 0
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class OutputLost(EtlError):  # noqa: N818
    """Standard output takes nothing more.

    :param is_unread: whether its reader has gone, as ``head`` does once it has seen enough
    """

    def __init__(self, message: str, *, is_unread: bool = False) -> None:
        super().__init__(message)
        self.is_unread = is_unread


class EmbeddedError(EtlError):
    """An embedded development service failed."""
