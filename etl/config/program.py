"""The sections about the program: its name, database, runs, commands and log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator

from etl.config.section import MAX_SECONDS, Identifier, Positive, Seconds, Section

# Makes the password of one login, from host, port and user.
TokenMaker = Callable[[str, str, str], str]


class JobSettings(Section):
    """The name that keeps this job apart from the other jobs of its database."""

    name: str | None = Field(
        None,
        max_length=200,
        description="name of the job, for its messages, runs and quarantine; default: schema.table "
        "of the target. Keep it when the table is renamed",
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        # With spaces around it, two names that look alike would be two jobs.
        if name is not None and (not name or not name.isprintable() or name != name.strip()):
            raise ValueError(
                "must be printable text, not blank, and without spaces before or after it"
            )
        return name


class UnmaskSettings(Section):
    """How much unmask may recover at once."""

    max_rows: int = Field(
        1000,
        ge=1,
        description="maximum number of tokens or rows that one unmask call may recover",
    )
    statement_seconds: Seconds = Field(30, description="time limit for the query of unmask --where")


class DatabaseSettings(Section):
    """The Postgres database to load into. Its address is DATABASE_URL."""

    url: SecretStr | None = Field(None, exclude=True, description="from DATABASE_URL only")
    login: Literal["password", "rds-iam"] = Field(
        "password",
        description="rds-iam: instead of a password, a token of AWS IAM, new for each connection "
        "and valid for 15 minutes; DATABASE_URL then has a user, a host and no password",
    )
    rds_ca_file: str | None = Field(
        None,
        description="PEM file of the certificate authorities of RDS; with it, the certificate of a "
        "host in rds.amazonaws.com is verified (sslmode=verify-full), unless DATABASE_URL or "
        "PGSSLMODE gives another sslmode. The image sets it",
    )
    create_tables: bool = Field(True, description="run creates missing tables, as init does")
    connect_seconds: int = Field(
        10, ge=1, le=MAX_SECONDS, description="connection timeout in seconds"
    )
    retry_seconds: Seconds = Field(
        300, description="how long a database outage may last before the run stops"
    )
    answer_seconds: Seconds = Field(
        600, description="time limit for a batch's transaction; after it the connection is closed"
    )
    _make_token: TokenMaker | None = PrivateAttr(None)

    @property
    def make_token(self) -> TokenMaker | None:
        """What makes the tokens of the login rds-iam; see :meth:`with_tokens`."""
        return self._make_token

    def with_tokens(self, make_token: TokenMaker) -> Self:
        """These settings, with what makes the tokens of the login rds-iam.

        The settings alone cannot say it: the credentials of AWS come from an environment.
        """
        copy = self.model_copy()
        copy._make_token = make_token  # noqa: SLF001 (of the same class)
        return copy


class RunSettings(Section):
    """When a run stops, and how many processes it has."""

    idle_seconds: Seconds = Field(
        30, description="stop when SQS has answered for N seconds that there is no message"
    )
    max_messages: Positive | None = Field(None, description="stop after N messages")
    max_seconds: Seconds | None = Field(
        None, description="begin no batch after N seconds, and release the rest"
    )
    forever: bool = Field(False, description="keep running when the queue is idle")
    workers: int = Field(1, ge=1, le=64, description="processes that drain the queue together")


class ReportSettings(Section):
    """How the duplicate report reads the table."""

    entity: Identifier | None = Field(
        None, description="column that identifies the user; default: the first column"
    )
    time: Identifier | None = Field(
        None, description="column that says when it happened; default: the first date or timestamp"
    )
    memory_mb: Positive = Field(
        2048,
        description="MiB in which the report may count the rows (85 bytes a row and more); if they "
        "are not enough, Postgres counts, which takes several times as long",
    )


class MetricsSettings(Section):
    """What a run tells monitoring systems. OpenTelemetry's own variables apply too."""

    emf: bool = Field(
        False,
        description="add the metrics to the log, in CloudWatch's embedded metric format; needs "
        "`log.format: json`",
    )
    textfile: str | None = Field(
        None,
        description="write the metrics to this file, for the textfile collector of Prometheus' "
        "node-exporter; its name ends in `.prom`, and each job needs its own",
    )

    @field_validator("textfile")
    @classmethod
    def _check_textfile(cls, path: str | None) -> str | None:
        if path is not None and not path.endswith(".prom"):
            raise ValueError("must end in .prom, or node-exporter does not read the file")
        return path


class LogSettings(Section):
    """Log lines, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum log level"
    )
    format: Literal["text", "json"] = Field("text", description="text, or one JSON object per line")
