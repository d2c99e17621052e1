"""All checks in order: of this machine, of the keyring, of AWS and the queue, of the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.doctor import aws, database, environment, keyring, payloads, queue, rights, tables
from etl.doctor.questions import open_questions
from etl.doctor.result import Result, asked, result_of
from etl.errors import EtlError, SettingsError
from etl.postgres.engine import read_only
from etl.postgres.watchdog import limited_engine

# For all questions to the database together. They read the catalogue and a few rows.
DATABASE_SECONDS = 60.0


def checkup(
    settings: Settings, variables: Mapping[str, str], *, is_offline: bool, tasks: int
) -> Iterator[Result]:
    """Make every check; no error ends it, and nothing is changed.

    :param variables: the environment, with the AWS variables and the keyring's
    :param is_offline: make only the checks that need neither AWS nor the database
    :param tasks: how many tasks run the job at the same time
    """
    yield from environment.results(settings, variables)
    keys: Keyring | None = None
    if not (is_offline and keyring.needs_aws(variables)):
        readable, keys = keyring.readable(variables)
        yield readable
        if keys is not None:
            yield asked("keyring.self_test", lambda: keyring.self_test(keys))
    if not is_offline:
        yield from _of_aws(settings, variables, tasks)
        yield from _of_the_database(settings, keys)


def skipped_areas(variables: Mapping[str, str], *, is_offline: bool) -> list[str]:
    """What is left out, in words."""
    if not is_offline:
        return []
    of_aws = ["the keyring (in Secrets Manager)"] if keyring.needs_aws(variables) else []
    return ["AWS", "the queue", "the rights to it", "the database", *of_aws]


def _of_aws(settings: Settings, variables: Mapping[str, str], tasks: int) -> Iterator[Result]:
    yield from aws.results(settings, variables)
    try:
        sqs = open_questions(settings.queue, variables)
    except SettingsError as error:
        yield result_of("queue.access", "fail", str(error))
        return
    yield asked("environment.clock", lambda: aws.clock(sqs))
    yield from queue.results(settings, sqs, tasks=tasks)
    yield from rights.results(settings, sqs)
    if settings.queue.payloads == "s3":
        yield from payloads.results(settings, variables)


def _of_the_database(settings: Settings, keys: Keyring | None) -> Iterator[Result]:
    limited = settings.database.model_copy(update={"answer_seconds": DATABASE_SECONDS})
    names = [*database.OF_A_CONNECTION, *tables.OF_THE_TABLES, *keyring.OF_THE_DATABASE]
    try:
        with limited_engine(limited) as engine:
            reader = read_only(engine)
            session = database.open_session(reader)
            names = []
            yield from database.results(reader, settings, session)
            yield from tables.results(engine, settings)
            if keys is not None:
                yield from keyring.results(reader, settings, keys)
    except EtlError as error:
        yield result_of("database.connection", "fail", str(error))
    for name in names:
        yield Result(name, "unknown", "no connection to the database")
