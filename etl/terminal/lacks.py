"""What the machine lacks, in words: memory, threads, processes, open files, a folder to be in."""

from __future__ import annotations

import errno
import os

from etl.errors import UsageError

_WAYS_OUT = {
    errno.EMFILE: "too many open files: raise the limit of this process (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOMEM: "not enough memory: raise the limit (ulimit -v, or the container's)",
    errno.EAGAIN: "no further process or thread: raise the limits (ulimit -u and -v, or the "
    "container's)",
}


def lack(error: Exception) -> str | None:
    """Say what a process was refused by its limits; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    elif isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        number = errno.EAGAIN
    return _WAYS_OUT.get(number or 0)


def check_folder() -> None:
    """Check that the current folder exists: nothing can be found from one that was deleted.

    :raises UsageError: it was deleted
    """
    if not _exists():
        raise UsageError("the current folder was deleted: go to another one, and start again")


def _exists() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 (stat finds a deleted folder)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # it may not be read, which is no hindrance
    return True
