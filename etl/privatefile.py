"""New files that only their owner may read: whole, or not there at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from etl.errors import SettingsError


def check_new(path: Path) -> None:
    """See that a file could be made.

    :raises SettingsError: it is there already, or its folder is not
    """
    if os.path.lexists(path):
        raise SettingsError(f"{str(path)!r} is there already; name another file")
    if not path.parent.is_dir():
        raise SettingsError(f"{str(path.parent)!r} is no folder; make it, or name another file")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file of mode 0600, which gets its name when the block ends well.

    A process that is killed in between leaves at most a hidden ``.partial`` file of that mode.

    :raises SettingsError: it is there already, or cannot be made
    """
    check_new(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        file = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link never takes the place of a file that has come meanwhile.
            os.link(partial, path)
        finally:
            partial.unlink()
    except OSError as error:
        raise SettingsError(f"{str(path)!r} cannot be written: {error.strerror}") from None
