"""Rewrites the keyring's file so that neither a crash nor a second writer loses a key."""

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
    """Add a new primary key to the keyring in a file; readers see the old file or the new one.

    The new file has the mode and owner of the old one, and is on disk when this returns.

    :raises KeyringError: the file is not a regular file that only its owner can use, holds no
        keyring, or cannot be replaced; or the key id is taken. The file is then unchanged.
    """
    try:
        with _locked(path) as old:
            keyring = load_keyring({"ETL_KEYRING_FILE": str(path)}).with_new(key_id)
            _replace(path, keyring, old)
            return keyring
    except OSError as error:
        problem = error.strerror
    raise KeyringError(f"keyring file {str(path)!r} cannot be replaced: {problem}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[os.stat_result]:
    """Lock the file, so that no rotation loses the key of another; yields its status."""
    while True:
        # Links are not followed: replacing one would leave the file behind it as it was.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            old = os.fstat(descriptor)
            if not stat.S_ISREG(old.st_mode):
                raise KeyringError(f"keyring file {str(path)!r} is not a regular file")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # If these differ, the last holder of the lock has replaced the file: lock the new one.
            if os.path.samestat(old, os.lstat(path)):
                yield old
                return
        finally:
            os.close(descriptor)


def _replace(path: Path, keyring: Keyring, old: os.stat_result) -> None:
    # mkstemp creates the file with mode 0600, whatever the umask.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(keyring.dump() + "\n")
            file.flush()
            os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    # The new name is on disk only once the folder is.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
