"""Runs the command at a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence

from tests.conftest import ROOT


def at_terminal(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    piped: bytes | None = None,
    columns: int | None = None,
) -> tuple[int, str]:
    """Run ``etl`` with its output and errors at a terminal; return its exit code and its text.

    :param piped: what standard input holds; None: that is the terminal too
    :param columns: width of the terminal; None: it says none
    """
    ours, theirs = pty.openpty()
    if columns is not None:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "etl", *arguments],
        env=environment,
        stdin=theirs if piped is None else subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        if process.stdin is not None:
            process.stdin.write(piped or b"")
            process.stdin.close()
        pieces = []
        try:
            while piece := os.read(ours, 65_536):
                pieces.append(piece)
        except OSError:  # Linux says so when the other side is closed
            pass
        os.close(ours)
        return process.wait(timeout=120), b"".join(pieces).decode()
