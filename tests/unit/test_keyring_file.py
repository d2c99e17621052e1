"""The keyring's file is replaced in one step and keeps its mode and owner."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from etl.cli import main
from etl.crypto import keyring_file
from etl.crypto.keyring import Keyring, load_keyring
from etl.errors import KeyringError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keyring's file, with one key."""
    file = tmp_path / "keyring.json"
    file.write_text(Keyring.new("k1").dump())
    file.chmod(0o600)
    return file


def read(path: Path) -> Keyring:
    """The keyring in a file, as a job reads it."""
    return load_keyring({"ETL_KEYRING_FILE": str(path)})


def test_rotate_adds_a_primary_key_and_keeps_the_old(path: Path) -> None:
    """The file holds the keyring that it returns, and nothing else is left in the folder."""
    old = read(path)
    ring = keyring_file.rotate(path)
    assert ring.key_ids == ("k1", ring.primary)
    assert ring.key("k1") == old.key("k1")
    assert read(path).dump() == ring.dump()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_rotate_keeps_the_mode_whatever_the_umask(path: Path, mode: int) -> None:
    """A file that its owner may not write is replaced too, since only the folder's mode matters."""
    path.chmod(mode)
    before = os.umask(0)
    try:
        keyring_file.rotate(path, "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_rotate_keeps_the_owner(path: Path) -> None:
    """When root rotates the keyring of a job's account, the job can still read it."""
    os.chown(path, 12345, 54321)
    keyring_file.rotate(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_rotate_refuses_a_symbolic_link(path: Path) -> None:
    """The link would be replaced by a file, and the file behind it would keep the old keyring."""
    link = path.with_name("link.json")
    link.symlink_to(path)
    with pytest.raises(KeyringError, match="Too many levels of symbolic links"):
        keyring_file.rotate(link)
    assert link.is_symlink()
    assert read(path).key_ids == ("k1",)


def test_rotate_refuses_a_pipe(tmp_path: Path) -> None:
    """It does not wait for the pipe's other end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(KeyringError, match="not a regular file"):
        keyring_file.rotate(pipe)


@pytest.mark.parametrize(
    ("key_id", "mode", "problem"),
    [
        ("k1", 0o600, "is taken"),
        ("k.2", 0o600, "must have 1 to 16"),
        (None, 0o640, "has mode 0640"),
    ],
)
def test_a_refused_rotation_leaves_the_file(
    path: Path, key_id: str | None, mode: int, problem: str
) -> None:
    """Its bytes are the same, and there is no other file beside it."""
    path.chmod(mode)
    before = path.read_bytes()
    with pytest.raises(KeyringError, match=problem):
        keyring_file.rotate(path, key_id)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_full_disk_leaves_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The incomplete new file is removed, and the error holds no key."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(KeyringError, match="No space left on device"):
        keyring_file.rotate(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_rotations_at_once_lose_no_key(path: Path) -> None:
    """Each of eight threads adds its key to those of the others."""
    keyrings: list[Keyring] = []
    threads = [
        threading.Thread(target=lambda: keyrings.append(keyring_file.rotate(path)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read(path).key_ids) == {"k1", *(keyring.primary for keyring in keyrings)}
    assert len(read(path).key_ids) == 9
    keys = json.loads(path.read_text())["keys"]
    for keyring in keyrings:
        assert json.loads(keyring.dump())["keys"].items() <= keys.items()


def test_the_variable_of_an_env_file_names_the_file(path: Path) -> None:
    """Quotes and a line end around the name are taken off, as everywhere."""
    environment = {"ETL_KEYRING_FILE": f'"{path}"\r\n'}
    done = CliRunner().invoke(main, ["keys", "rotate", "--in-place"], env=environment)
    assert done.exit_code == 0, done.output
    assert len(read(path).key_ids) == 2
