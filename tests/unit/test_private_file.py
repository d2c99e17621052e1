"""Private files are complete or absent, and never replace another file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from etl.errors import UsageError
from etl.operations.private_file import new_file
from tests.unit.builders import ROOT


def test_the_file_appears_whole_and_private(tmp_path: Path) -> None:
    """It gets its name last, and until then it has none."""
    path = tmp_path / "new"
    with new_file(path) as file:
        file.write(b"one")
        assert list(tmp_path.iterdir()) == []
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_nameless_files_gets_a_hidden_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hidden file is as private, and gone at the end."""
    monkeypatch.delattr(os, "O_TMPFILE")
    path = tmp_path / "new"
    with new_file(path) as file:
        file.write(b"one")
        assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600]
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    """A part of a file could hold plain values."""
    code = (
        "import os, pathlib, signal; from etl.operations.private_file import new_file\n"
        f"with new_file(pathlib.Path({str(tmp_path / 'new')!r})) as file:\n"
        "    file.write(b'one'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """An exception in the block leaves neither the file nor a part of it."""
    with pytest.raises(RuntimeError), new_file(tmp_path / "new") as file:
        file.write(b"one")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_not_replaced(tmp_path: Path) -> None:
    """Neither a dangling link nor a file created during the writing is replaced."""
    path, link = tmp_path / "new", tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="already"), new_file(link):
        pass
    with pytest.raises(UsageError, match="cannot be written"), new_file(path) as file:
        file.write(b"mine")
        path.write_bytes(b"another's")
    assert path.read_bytes() == b"another's"
    assert sorted(tmp_path.iterdir()) == [link, path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The error says that the path is not a folder."""
    with pytest.raises(UsageError, match="not a folder"), new_file(tmp_path / "a" / "b"):
        pass


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_only_its_owner_can_read_the_file_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int, nameless: bool
) -> None:
    """And the owner can, in a folder named from the working directory."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    path = Path("folder/new")
    before = os.umask(umask)
    try:
        with new_file(path) as file:
            file.write(b"one")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"one"
