"""Why a run stopped, in words, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from etl.analysis.history import KILLED, RUNNING, RunRecord


@dataclass(frozen=True)
class Step:
    """One thing to do: a sentence, and a command to copy if there is one."""

    text: str
    command: str | None = None


@dataclass(frozen=True)
class Ending:
    """What a stop reason means, and what to do about it."""

    words: str
    steps: tuple[Step, ...] = ()


AGAIN = Step("start again; nothing is lost or loaded twice:", "etl run")
REST = Step("load the rest:", "etl run")
_LOOK_AT_SAMPLES = Step("see which checks failed:", "etl quarantine list --samples")
_CORRECTED = Step("correct config.yaml or the producer, then start again:", "etl run")

# By stop reason: those of the errors in etl/errors.py, and those that are no error.
ENDINGS = {
    "idle": Ending("the queue was empty"),
    "max_messages": Ending("run.max_messages was reached", (REST,)),
    "max_seconds": Ending("run.max_seconds was reached", (REST,)),
    "replayed": Ending("every selected entry was tried"),
    "SIGTERM": Ending("somebody, or the scheduler, ended it with SIGTERM", (REST,)),
    "SIGHUP": Ending("its terminal was closed", (REST,)),
    "SIGINT": Ending("somebody ended it with Ctrl-C", (REST,)),
    "parent process ended": Ending("the process that started the workers was gone", (AGAIN,)),
    "worker died": Ending(
        "a worker process died",
        (
            Step("look for a lack of memory: in the kernel's log, or the container's limit"),
            Step("with fewer workers, or smaller batches, it needs less:", "etl run --workers 1"),
        ),
    ),
    "quarantine budget": Ending(
        "too many messages failed a check; the last batch was released",
        (
            _LOOK_AT_SAMPLES,
            Step("or in full:", "etl quarantine list --samples --entries"),
            _CORRECTED,
        ),
    ),
    "batch check": Ending(
        "a whole batch failed a check of 'batch_checks'; it was released",
        (
            Step("look at a few messages of the queue, as shapes:", "etl peek"),
            _CORRECTED,
        ),
    ),
    "python checks": Ending(
        "a check of 'python_checks' cannot be applied; the last batch was released",
        (Step("correct the function that the problem names, then start again:", "etl run"),),
    ),
    "database refused": Ending(
        "the database refused a statement or the login",
        (
            Step("correct what the problem names: a right, a table or a column"),
            Step("missing tables and columns are created by:", "etl init"),
            AGAIN,
        ),
    ),
    "database unavailable": Ending(
        "the database was away, for longer than database.retry_seconds",
        (
            Step("look at the server, its disk and its locks; see docs/operations.md"),
            Step("once it answers, start again:", "etl run"),
        ),
    ),
    "queue unavailable": Ending(
        "SQS was away, for longer than queue.retry_seconds",
        (Step("check queue.url, the region and the network, then start again:", "etl run"),),
    ),
    "queue refused": Ending(
        "SQS refused a call",
        (Step("correct the permission, the key or the URL, then start again:", "etl run"),),
    ),
    "S3 unavailable": Ending(
        "S3, where messages have their bodies, was away for longer than queue.retry_seconds",
        (Step("check the network and the endpoint of S3, then start again:", "etl run"),),
    ),
    "S3 refused": Ending(
        "S3 refused to give the body of a message",
        (
            Step("allow what the problem names: s3:GetObject, or the KMS key of the bucket"),
            Step("see whether the buckets can be read:", "etl doctor"),
            AGAIN,
        ),
    ),
    "deletes refused": Ending(
        "SQS refused to delete handled messages",
        (
            Step("allow sqs:DeleteMessage on the queue to the job's credentials"),
            Step("then start again; what is loaded is only deleted:", "etl run"),
        ),
    ),
    "queue": Ending("receiving failed", (AGAIN,)),
    "no SentTimestamp": Ending(
        "messages came without SentTimestamp, from which a column is made",
        (Step("let the SQS emulator or proxy pass the attribute on, then:", "etl run"),),
    ),
    "last receives": Ending(
        "a dry run would have used the last receives of its messages",
        (Step("load the messages:", "etl run"),),
    ),
    "not reconciled": Ending(
        "the counts do not add up: a bug",
        (Step("nothing is lost; report the log and this page"), AGAIN),
    ),
    "error": Ending("an error", (Step("correct what the problem names, then:", "etl run"),)),
}

_RENAMED = "has a producer renamed a field? unknown fields are listed above; see docs/operations.md"


def words(run: RunRecord) -> str | None:
    """Why a run stopped; None if it has not, as far as the database knows."""
    ending = ENDINGS.get(run.stop_reason or "")
    return f"{run.stop_reason}: {ending.words}" if ending else run.stop_reason


def next_steps(run: RunRecord) -> list[Step]:
    """What to do about a run, in order."""
    if run.state == RUNNING:
        return [Step("wait for its end; look again with:", f"etl history {run.run_id[:8]}")]
    if run.command == "replay":
        return _of_replay(run)
    if run.state == KILLED:
        return _of_killed(run)
    ending = ENDINGS.get(run.stop_reason or "", ENDINGS["error"])
    steps = list(ending.steps)
    if run.exit_code and not steps:
        steps = [AGAIN]
    if _may_be_renamed(run):
        steps.insert(0, Step(_RENAMED))
    return steps + _of_quarantine(run)


def _of_replay(run: RunRecord) -> list[Step]:
    steps = []
    if run.state == KILLED or run.exit_code:
        steps = [Step("what was not replayed is still in the quarantine; start again")]
    if steps or run.quarantined:
        steps.append(Step("see what is left in the quarantine, and why:", "etl quarantine list"))
    return steps


def _of_killed(run: RunRecord) -> list[Step]:
    return [
        Step("it was killed or crashed: see its log, the kernel's and the scheduler's"),
        Step("its messages come back after the queue's visibility timeout; then:", "etl run"),
        *_of_quarantine(run),
    ]


def _of_quarantine(run: RunRecord) -> list[Step]:
    if not run.open_entries:
        return []
    return [
        Step("see what failed a check:", f"etl quarantine list --run {run.run_id}"),
        Step("once the cause is corrected, load it:", f"etl quarantine replay --run {run.run_id}"),
    ]


def _may_be_renamed(run: RunRecord) -> bool:
    is_missing = any(check["check"] == "missing" for check in run.failed_checks)
    return is_missing and any(unknown["name"] for unknown in run.unknown_fields)
