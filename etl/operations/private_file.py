"""New files that only their owner can read, and that are either complete or absent."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from etl.errors import UsageError


def check_new_file(path: Path) -> None:
    """Check that a file does not exist and that its folder does.

    :raises UsageError: the file exists already, or its folder does not
    """
    if os.path.lexists(path):
        raise UsageError(f"{str(path)!r} exists already; name another file")
    if not path.parent.is_dir():
        raise UsageError(f"{str(path.parent)!r} is not a folder; make it, or name another file")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file of mode 0600, which gets its name when the block ends without an error.

    Until then the file has no name, so a process that is killed leaves nothing. On a file system
    without nameless files, a killed process leaves a hidden ``.partial`` file of mode 0600.

    :raises UsageError: the file exists already, or cannot be created
    """
    check_new_file(path)
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            with _nameless(path) as (file, source):
                yield file
                file.flush()
                os.fsync(file.fileno())
                # Unlike a rename, a link never replaces a file that was created meanwhile. Given a
                # folder, Python calls linkat(), which follows the link in /proc.
                os.link(source, path, src_dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _nameless(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file in the folder of the path; yields it and the path, from there, to link to."""
    descriptor = -1
    partial = None
    with contextlib.suppress(AttributeError, OSError):
        descriptor = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE, 0o600)
    if descriptor < 0:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o600)  # a umask such as 777 would leave its owner nothing
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, partial.name if partial else f"/proc/self/fd/{descriptor}"
    finally:
        if partial is not None:
            partial.unlink()
