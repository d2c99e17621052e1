"""What the machine lacks is said in one line, and nothing else is hidden behind it."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from etl.commands import report
from etl.errors import UsageError
from etl.logs import lack


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
    assert "message withheld" not in done.stderr
    return done.returncode, done.stderr.splitlines()[-1]


def test_a_deleted_folder_is_said(tmp_path: Path) -> None:
    """Whatever would have looked for something in it."""
    code, said = etl("config show", f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone")
    assert code == 2
    assert said == "error: the current folder was deleted: go to another one, and start again"


def test_a_file_without_an_end_is_refused(tmp_path: Path) -> None:
    """A device, or a file that somebody made too long: nothing waits, and memory suffices."""
    for arguments, before in (
        ("history --config /dev/zero", "true"),
        ("keys list", f"umask 077; f={tmp_path}/k; truncate -s 3G $f; export ETL_KEYRING_FILE=$f"),
    ):
        code, said = etl(arguments, before)
        assert code == 2
        assert "longer than" in said
        assert "keys new" not in said


def test_a_dash_of_a_web_page_is_named() -> None:
    """An editor makes one of two hyphens."""
    code, said = etl("run \u2013dry-run", "true")
    assert code == 2
    assert said == "An argument begins with a dash: type two hyphens instead."


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk ends a write in the middle."""
    old = tmp_path / "r.html"
    old.write_text("old")

    def half(_report: object, path: Path) -> None:
        path.write_text("ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(report, "_writers", lambda: {"html": half})
    with pytest.raises(UsageError, match="No space left"):
        report._write("html", None, old)  # type: ignore[arg-type]
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]
