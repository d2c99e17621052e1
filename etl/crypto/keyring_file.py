"""The keyring's file, rewritten so that neither a crash nor a second writer loses a key."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etl.crypto.keyring import Keyring, load_keyring
from etl.errors import KeyringError


def rotate(path: Path, key_id: str | None = None) -> Keyring:
    """Add a new primary key to the keyring in a file; whoever reads it sees the old one or the new.

    The new file has the old one's mode and owner, and is on the disk when this returns.

    :raises KeyringError: the file is no regular file that only its owner can use, holds no keyring,
        or cannot be replaced; or the key id is taken. The file is then what it was.
    """
    try:
        with _locked(path) as old:
            ring = load_keyring({"ETL_KEYRING_FILE": str(path)}).with_new(key_id)
            _replace(path, ring, old)
            return ring
    except OSError as error:
        problem = error.strerror
    raise KeyringError(f"keyring file {str(path)!r} cannot be replaced: {problem}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[os.stat_result]:
    """Hold the file against another rotation, whose key would be lost; yields what it is."""
    while True:
        # A link is not followed: it could lead anywhere, and would be replaced by a file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            old = os.fstat(descriptor)
            if not stat.S_ISREG(old.st_mode):
                raise KeyringError(f"keyring file {str(path)!r} is no regular file")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Who held the lock before has put another file in its place.
            if os.path.samestat(old, os.lstat(path)):
                yield old
                return
        finally:
            os.close(descriptor)


def _replace(path: Path, ring: Keyring, old: os.stat_result) -> None:
    # mkstemp makes it with mode 0600, whatever the umask.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(ring.dump() + "\n")
            file.flush()
            os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    # The new name is on the disk only when the folder is.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
