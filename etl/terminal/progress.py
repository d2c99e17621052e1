"""Shows the progress of a run: a live line on a terminal, else a log line every few seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from etl.errors import EtlError
from etl.runs import Snapshot
from etl.sqs.queue import Queue

log = logging.getLogger(__name__)

LINE_SECONDS = 5.0  # between two log lines
REDRAW_SECONDS = 0.25  # between two updates of the live line
BACKLOG_SECONDS = 2.0  # between two requests to SQS, whose count is approximate anyway


@contextmanager
def watch(snapshot: Callable[[], Snapshot], queue: Queue) -> Iterator[None]:
    """Show the progress of a run on standard error while the block lasts."""
    done = threading.Event()
    show = _show_live if sys.stderr.isatty() else _log_lines
    backlog = _Backlog(queue)
    threads = [
        threading.Thread(target=show, args=(snapshot, backlog, done), name="progress"),
        threading.Thread(target=backlog.ask, args=(done,), name="backlog", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        threads[0].join()


class _Backlog:
    """The messages left in the queue, read in a separate thread: SQS may be slow to answer."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.messages: int | None = None

    def ask(self, done: threading.Event) -> None:
        while not done.wait(BACKLOG_SECONDS if self.messages is not None else 0.1):
            try:
                self.messages = self._queue.state().visible
            except EtlError:
                self.messages = None
                done.wait(BACKLOG_SECONDS)


def line(now: Snapshot, backlog: int | None) -> str:
    """The progress of a run as one log line."""
    left = "?" if backlog is None else f"{backlog:,}"
    return (
        f"{now.received:,} received ({_rate(now):,.0f}/s), {now.loaded:,} loaded, "
        f"{now.already_handled:,} already handled, {now.quarantined:,} quarantined, "
        f"{now.buffered:,} waiting, {left} left in the queue"
    )


def short_line(now: Snapshot, backlog: int | None) -> str:
    """A shorter line, which fits beside a bar on a terminal of eighty columns."""
    left = "?" if backlog is None else f"{backlog:,}"
    return (
        f"{now.loaded:,} loaded, {now.quarantined:,} quarantined, {_rate(now):,.0f}/s, {left} left"
    )


def _rate(now: Snapshot) -> float:
    return now.received / now.seconds if now.seconds else 0.0


def _log_lines(snapshot: Callable[[], Snapshot], backlog: _Backlog, done: threading.Event) -> None:
    while not done.wait(LINE_SECONDS):
        log.info("%s", line(snapshot(), backlog.messages))


def _show_live(snapshot: Callable[[], Snapshot], backlog: _Backlog, done: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(10), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task("", total=None)
        last = False
        while not last:
            last = done.wait(REDRAW_SECONDS)
            now = snapshot()
            finished = now.loaded + now.already_handled + now.quarantined
            left = now.received - finished + (backlog.messages or 0)
            bar.update(
                task,
                completed=finished,
                total=(finished if last else finished + left) or None,
                description=short_line(now, backlog.messages),
            )


@contextmanager
def steps() -> Iterator[Callable[[int, int, str], None]]:
    """Show the progress of some work on standard error.

    Yields a function to call with the steps done, all steps, and a line of text.
    """
    if not sys.stderr.isatty():
        yield _LoggedSteps()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(20), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total, description=text
        )


class _LoggedSteps:
    """Logs a line every few seconds."""

    def __init__(self) -> None:
        self._due = time.monotonic() + LINE_SECONDS

    def __call__(self, done: int, total: int, text: str) -> None:
        if time.monotonic() >= self._due:
            log.info("%s, step %d of %d", text, done, total)
            self._due = time.monotonic() + LINE_SECONDS
