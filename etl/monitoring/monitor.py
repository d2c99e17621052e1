"""Tells the monitoring systems of a run: each minute while it goes on, and at its end."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from etl.config import Settings
from etl.errors import EtlError
from etl.monitoring.emf import Emf
from etl.monitoring.figures import End, Figures, oldest_age
from etl.monitoring.metrics import Sample
from etl.monitoring.otlp import Otlp, find_endpoint
from etl.monitoring.textfile import Textfile
from etl.runs import Counts, Summary
from etl.sqs.dead_letters import DeadLetters
from etl.sqs.queue import Queue, QueueState
from etl.workers.snapshot import ProgressDisplay, Snapshot

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
UNKNOWN = "unknown"  # in the place of a queue's name
_QUEUE_URL = re.compile(r"https?://.*/([A-Za-z0-9_-]{1,80}(\.fifo)?)/?")


class Output(Protocol):
    """A way to tell a monitoring system. What goes wrong with it costs the run nothing."""

    def tell(self, samples: list[Sample], *, is_last: bool) -> None:
        """Tell it the samples."""


class Monitor:
    """The figures of one run, as a context manager that also tells how a run failed.

    What the run has asked anyway is noted: the metrics cost a question to SQS a minute, and one to
    the database.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        """Prepare the ways that the settings and the environment ask for."""
        self._began = time.monotonic()
        self._outputs = list(_outputs(settings, environment))
        self._lock = threading.Lock()  # guards all below
        self._has_ended = False
        self._snapshot = Snapshot()
        self._visible: int | None = None
        self._dead_letters: int | None = None
        self._ledger_ids: int | None = None

    @property
    def is_on(self) -> bool:
        """Whether anybody is told."""
        return bool(self._outputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if error is not None:
            seconds = round(time.monotonic() - self._began, 3)
            seen = self._snapshot
            code = getattr(error, "exit_code", 1)
            self._tell_end(code, seconds, _counts(seen), seen.not_acknowledged)

    def note_queue(self, state: QueueState | None, dead_letters: DeadLetters | None) -> None:
        """Note what the queue has said of itself, if it has."""
        if state is not None:
            self._visible = state.visible
        if dead_letters is not None:
            self._dead_letters = dead_letters.messages

    def note_ledger(self, ids: int | None) -> None:
        """Note how many ids the ledger has, if the database has said so."""
        self._ledger_ids = ids

    def watching(self, watch: ProgressDisplay | None) -> ProgressDisplay | None:
        """Follow the run in addition to another display of its progress."""
        if not self.is_on:
            return watch
        return lambda snapshot, queue: self._follow(watch, snapshot, queue)

    def ended(self, summary: Summary) -> None:
        """Tell how the run ended."""
        self.note_queue(summary.left, summary.dead_letters)
        self._tell_end(summary.exit_code, summary.seconds, summary.counts, summary.not_acknowledged)

    @contextmanager
    def _follow(
        self, watch: ProgressDisplay | None, snapshot: Callable[[], Snapshot], queue: Queue
    ) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(
            target=self._tell_now, args=(snapshot, queue, done), name="metrics", daemon=True
        )
        with watch(snapshot, queue) if watch else nullcontext():
            thread.start()
            try:
                yield
            finally:
                done.set()
                with self._lock:
                    self._snapshot = snapshot()

    def _tell_now(
        self, snapshot: Callable[[], Snapshot], queue: Queue, done: threading.Event
    ) -> None:
        while not done.wait(EVERY_SECONDS):
            try:
                state = queue.state()
            except EtlError:
                state = None  # what was known stays
            with self._lock:
                # SQS may have taken long to answer.
                if done.is_set():
                    return
                self.note_queue(state, None)
                self._snapshot = snapshot()
                seconds = round(time.monotonic() - self._began, 3)
                self._tell(seconds, _counts(self._snapshot), self._snapshot.not_acknowledged, None)

    def _tell_end(
        self, exit_code: int, seconds: float, counts: Counts, not_acknowledged: int
    ) -> None:
        with self._lock:
            if not self._has_ended:
                self._has_ended = True
                self._tell(seconds, counts, not_acknowledged, End(exit_code, time.time()))

    def _tell(self, seconds: float, counts: Counts, not_acknowledged: int, end: End | None) -> None:
        snapshot = self._snapshot
        unfinished = snapshot.held + snapshot.released
        age = oldest_age(self._visible, unfinished, snapshot.oldest_sent_ms, time.time())
        figures = Figures(
            seconds=seconds,
            counts=counts,
            checks=snapshot.checks,
            not_acknowledged=not_acknowledged,
            visible=self._visible,
            oldest_age_seconds=age,
            dead_letters=self._dead_letters,
            ledger_ids=self._ledger_ids,
            end=end,
        )
        for output in self._outputs:
            try:
                output.tell(figures.samples(), is_last=end is not None)
            except Exception as error:  # noqa: BLE001  (a bug; it must not end a run that is well)
                log.warning("metrics are missing: unexpected %s", type(error).__name__)


def _counts(snapshot: Snapshot) -> Counts:
    return Counts(
        received=snapshot.received,
        loaded=snapshot.loaded,
        already_handled=snapshot.already_handled,
        quarantined=snapshot.quarantined,
        released=snapshot.released,
        updated=snapshot.updated,
        skipped=snapshot.skipped,
    )


def _outputs(settings: Settings, environment: Mapping[str, str]) -> Iterator[Output]:
    labels = (settings.job_name, queue_name(settings.queue.url))
    if settings.metrics.emf:
        yield Emf(labels)
    if settings.metrics.textfile is not None:
        try:
            yield Textfile(Path(settings.metrics.textfile), labels)
        except ImportError:
            log.warning(
                "metrics.textfile is set, but prometheus-client is not installed: install the "
                "extra prometheus"
            )
    endpoint = find_endpoint(environment)
    if endpoint is not None:
        try:
            yield Otlp(endpoint, labels, settings.target)
        except Exception as error:  # noqa: BLE001  (protobuf has its own for versions that differ)
            log.warning(
                "OpenTelemetry's variables ask for metrics, but its libraries cannot be imported "
                "(%s): install the extra otel",
                type(error).__name__,
            )


def queue_name(url: str | None) -> str:
    """The name of a queue, as the label says it.

    What is not a name could be a secret in the wrong place, and is not shown.
    """
    match = _QUEUE_URL.fullmatch((url or "").strip())
    return match[1] if match else UNKNOWN
