"""New files that only their owner may read: whole, or not there at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from etl.errors import SettingsError


def check_new_file(path: Path) -> None:
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

    Until then it has no name, so that a process that is killed leaves nothing. Where the file
    system knows no such files it leaves a hidden ``.partial`` file of that mode.

    :raises SettingsError: it is there already, or cannot be made
    """
    check_new_file(path)
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            with _nameless(path) as (file, source):
                yield file
                file.flush()
                os.fsync(file.fileno())
                # Unlike a rename, a link never takes the place of a file that has come meanwhile.
                # With a folder named Python calls linkat(), which follows the link in /proc.
                os.link(source, path, src_dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SettingsError(f"{str(path)!r} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _nameless(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file beside the path; returns it and what can be linked to a name."""
    descriptor, partial = -1, None
    with contextlib.suppress(AttributeError, OSError):
        descriptor = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE, 0o600)
    if descriptor < 0:
        partial = path.absolute().with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, str(partial or f"/proc/self/fd/{descriptor}")
    finally:
        if partial is not None:
            partial.unlink()
