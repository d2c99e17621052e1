"""What the machine lacks is said in one line, and nothing else is hidden behind it."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from etl.terminal.lacks import lack


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (OSError(errno.ENOMEM, "x"), "not enough memory"),
        (OSError(errno.EMFILE, "x"), "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "x"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
    ],
)
def test_a_lack_is_named_with_the_limit_to_raise(error: Exception, words: str) -> None:
    """By the number of the error, which is the same in every language."""
    assert words in (lack(error) or "")


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), OSError(errno.EPERM, "x"), OSError(), ValueError("x")]
)
def test_any_other_error_keeps_its_places(error: Exception) -> None:
    """It is a bug, and its traceback is needed."""
    assert lack(error) is None


def etl(arguments: str, before: str) -> tuple[int, str]:
    """Run a command in a shell, after other commands; return its code and its last line."""
    command = f"{before}; exec {sys.executable} -m etl {arguments}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert "  File " not in done.stderr
    assert "unexpected" not in done.stderr
    return done.returncode, done.stderr.splitlines()[-1]


def test_a_deleted_folder_is_said(tmp_path: Path) -> None:
    """Whatever would have looked for something in it."""
    code, said = etl("config show", f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone")
    assert code == 2
    assert said == "error: the current folder was deleted: go to another one, and start again"
