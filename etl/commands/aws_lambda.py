"""AWS Lambda: a run on a schedule, for a queue that one function drains within its time limit.

``deploy/lambda/function.yaml`` names :func:`handler`. Lambda sends no signal when the time is up;
it kills the function. So the run ends before that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from etl import job
from etl.commands.options import load_settings
from etl.config import Settings
from etl.crypto.keyring_sources import read_secret
from etl.errors import EtlError, SettingsError
from etl.logs import places
from etl.runs import Summary
from etl.terminal import lines

log = logging.getLogger(__name__)

# After max_seconds: the batch in progress, which takes up to a fifth of it, and some room.
LAST_BATCH = 0.25
END_SECONDS = 10  # for the deletes, the releases and the bookkeeping
SHORTEST_SECONDS = 10

WAY_OUT = "store DATABASE_URL in it"


class Context(Protocol):
    """What Lambda passes to a handler, as far as it is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda kills the function."""


class RunFailed(Exception):  # noqa: N818  (a line of Lambda's log, and its count of errors)
    """A run ended with an exit code other than 0."""


def handler(_event: object, context: Context) -> dict[str, Any]:
    """Drain the queue once, in the time that is left.

    :returns: the summary
    :raises RunFailed: the exit code is not 0; its message has the code, and never a value
    """
    try:
        summary = _run(os.environ, context.get_remaining_time_in_millis() / 1000)
    except EtlError as error:
        raise RunFailed(f"exit code {error.exit_code}: {error}") from None
    except Exception as error:  # noqa: BLE001 (Lambda would log its message, which may quote data)
        log.error("%s", places(error))  # noqa: TRY400
        raise RunFailed(f"unexpected {type(error).__qualname__}; the log has its places") from None
    lines.json_line(summary.as_dict())
    if summary.exit_code:
        raise RunFailed(f"exit code {summary.exit_code}: {summary.problem}")
    return summary.as_dict()


def _run(environment: Mapping[str, str], seconds: float) -> Summary:
    settings = _within(load_settings(Path(environment.get("ETL_CONFIG", "config.yaml"))), seconds)
    secret = environment.get("DATABASE_URL_SECRET")
    if secret and not environment.get("DATABASE_URL"):
        # Whoever may look at a function sees its variables.
        url = read_secret(secret, environment, "secret of DATABASE_URL_SECRET", WAY_OUT)
        environment = {**environment, "DATABASE_URL": url.strip()}
    return job.run(settings, environment)


def _within(settings: Settings, seconds: float) -> Settings:
    """Let a run end within so many seconds, its last batch and its releases included.

    :raises SettingsError: that is not possible
    """
    if settings.run.workers > 1:
        raise SettingsError(
            f"run.workers is {settings.run.workers}, and a Lambda function runs one: unset it, and "
            "give the function more memory, which is more CPU"
        )
    end_seconds = settings.queue.wait_seconds + END_SECONDS
    # Whole seconds, so that equal time limits give equal settings, and one config_hash.
    max_seconds = int((seconds - end_seconds) / (1 + LAST_BATCH))
    if max_seconds < SHORTEST_SECONDS:
        needed = end_seconds + SHORTEST_SECONDS * (1 + LAST_BATCH)
        raise SettingsError(
            f"{seconds:.0f} s are left for the run: set the function's timeout to {needed + 1:.0f} "
            "or more"
        )
    run = {"max_seconds": min(settings.run.max_seconds or max_seconds, max_seconds)}
    # A transaction that waits for a lock must not outlast the function either.
    answer_seconds = min(settings.database.answer_seconds, max_seconds * LAST_BATCH)
    return settings.model_copy(
        update={
            "run": settings.run.model_copy(update=run),
            "database": settings.database.model_copy(update={"answer_seconds": answer_seconds}),
        }
    )
