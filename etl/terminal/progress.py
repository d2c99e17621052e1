"""Shows the progress of a run: live at a terminal, else a log line about once a minute."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from etl.errors import EtlError
from etl.sqs.queue import Queue
from etl.terminal.estimate import Rate, duration, seconds_left
from etl.workers.snapshot import Snapshot

log = logging.getLogger(__name__)

LINE_SECONDS = 60.0  # between two log lines
NOTE_SECONDS = 0.5  # between two looks at the counts, for the rate
REDRAW_SECONDS = 0.25  # between two updates of the live display
# Between two requests to SQS for its counts, which AWS updates with a delay of up to a minute.
BACKLOG_SECONDS = 12.0
END_SECONDS = 2.0  # for the last update
STEP_SECONDS = 5.0  # between two log lines of a command that works in steps


@contextmanager
def watch(snapshot: Callable[[], Snapshot], queue: Queue) -> Iterator[None]:
    """Show the progress of a run on standard error while the block lasts."""
    done = threading.Event()
    view = _View(snapshot, queue)
    show = _show_live if _is_live() else _log_lines
    threads = [
        threading.Thread(target=show, args=(view, done), name="progress", daemon=True),
        threading.Thread(target=view.ask, args=(done,), name="backlog", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        # A terminal or a pipe that takes no more lines must not hold up the end of the run.
        threads[0].join(END_SECONDS)


class _View:
    """The counts, the rate, and the messages left in the queue."""

    def __init__(self, snapshot: Callable[[], Snapshot], queue: Queue) -> None:
        self._snapshot = snapshot
        self._queue = queue
        self._rate = Rate(time.monotonic())
        self._visible: tuple[int, int] | None = None  # messages, and how many had been received

    def ask(self, done: threading.Event) -> None:
        """Ask SQS for the backlog, in a thread of its own: SQS may be slow to answer."""
        wait_seconds = 0.1
        while not done.wait(wait_seconds):
            try:
                received = self._snapshot().received
                self._visible = (self._queue.state().visible, received)
            except EtlError:
                self._visible = None
            wait_seconds = BACKLOG_SECONDS

    def parts(self) -> list[str]:
        """The progress now, in the parts of :func:`parts`."""
        now = self._snapshot()
        time_now = time.monotonic()
        self._rate.note(now, time_now)
        backlog = None
        if self._visible is not None:
            visible, received = self._visible
            # What has been received since then has left the queue.
            backlog = max(visible - max(now.received - received, 0), 0)
        return parts(now, backlog, self._rate.per_second(time_now))


def parts(now: Snapshot, backlog: int | None, rate: float | None) -> list[str]:
    """The progress of a run in words: where every message is, and how fast it goes.

    :param backlog: messages in the queue; None if that is not known
    :param rate: messages a second; None if that is not known
    """
    states = (
        (now.loaded, "loaded"),
        (now.already_handled, "already handled"),
        (now.quarantined, "quarantined"),
        (now.released, "released"),
        (now.being_loaded, "being loaded"),
        (now.gathered, "gathered"),
    )
    named = [f"{count:,} {state}" for count, state in states if count or state == "loaded"]
    counts = f"received {now.received:,} = {' + '.join(named)}"
    if now.to_delete > 0:
        counts += f"; {now.to_delete:,} to delete"
    if backlog == 0 and not now.held and now.to_delete <= 0:
        return [counts, "waiting for messages"]
    speed = [f"{rate:,.0f}/s"] if rate is not None else []
    if backlog is not None:
        speed.append(f"{backlog:,} in the queue")
    seconds = seconds_left(now, backlog, rate)
    if seconds is not None:
        speed.append(f"{duration(seconds)} left")
    return [counts, ", ".join(speed)] if speed else [counts]


def _is_live() -> bool:
    """Whether standard error is a terminal on which a line can be written again."""
    from rich.console import Console

    return bool(sys.stderr and sys.stderr.isatty()) and not Console(stderr=True).is_dumb_terminal


def _log_lines(view: _View, done: threading.Event) -> None:
    due = time.monotonic() + LINE_SECONDS
    while not done.wait(NOTE_SECONDS):
        shown = view.parts()
        if time.monotonic() >= due:
            log.info("%s", "; ".join(shown))
            due = time.monotonic() + LINE_SECONDS


def _show_live(view: _View, done: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, emoji=False)
    # Log lines go above the live display; standard output may be a file.
    with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:
        while not done.wait(REDRAW_SECONDS):
            live.update(Text("\n".join(view.parts())), refresh=True)
        live.update(Text("\n".join(view.parts())), refresh=True)


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
        self._due = time.monotonic() + STEP_SECONDS

    def __call__(self, done: int, total: int, text: str) -> None:
        if time.monotonic() >= self._due:
            log.info("%s, step %d of %d", text, done, total)
            self._due = time.monotonic() + STEP_SECONDS
