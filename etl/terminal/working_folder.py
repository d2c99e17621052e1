"""The folder that a command runs in."""

from __future__ import annotations

import os

from etl.errors import UsageError


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
        pass  # it exists, even if it cannot be read
    return True
