"""Which of two environments says where the database is, when a program gives the job its own."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping

from pydantic import SecretStr

from etl.config import Settings

log = logging.getLogger(__name__)

_LIBPQ = re.compile(r"PG[A-Z]+")


def with_database_url(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """Return the settings with the DATABASE_URL of an environment, and what makes its tokens.

    If there is no DATABASE_URL in it, that of the settings stays.

    The settings may have been made from another environment. libpq reads its own variables from the
    process, so those that differ there are named in a warning.
    """
    ignored = sorted(
        name
        for name, value in environment.items()
        if _LIBPQ.fullmatch(name) and os.environ.get(name) != value
    )
    if ignored:
        log.warning(
            "ignored %s: libpq reads its variables from the environment of the process, not from "
            "the mapping that the run was given; put them into DATABASE_URL",
            ", ".join(ignored),
        )
    url = environment.get("DATABASE_URL")
    settings = with_tokens(settings, environment)
    known = settings.database.url
    if not url or (known is not None and known.get_secret_value() == url):
        return settings
    if known is not None:
        log.info("DATABASE_URL is the one that the run was given, not that of the settings")
    database = settings.database.model_copy(update={"url": SecretStr(url)})
    return settings.model_copy(update={"database": database})


def with_tokens(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """Return the settings with what makes the tokens of the login rds-iam, if they have that login.

    :param environment: has the AWS variables
    """
    if settings.database.login == "password":
        return settings
    from etl.aws.rds import RdsTokens  # with botocore

    database = settings.database.with_tokens(RdsTokens(environment))
    return settings.model_copy(update={"database": database})
