"""What a role lacks that a run needs: rights to the job's own tables and functions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import sqlalchemy as sa

from etl.config import Table
from etl.postgres.columns import quoted
from etl.postgres.queries import queries

_COUNTS = "received loaded already_handled quarantined released updated skipped batches"
_EVENTS = "events_loaded events_already_handled events_quarantined empty_messages"
_FINDINGS = "failed_checks unknown_fields notes"
_END = "finished_at stop_reason problem exit_code seen_at"
# The columns that each statement of a run names, see etl/sql/queries.sql. DELETE names none. A
# right may be granted on the table or on these columns; etl/sql/roles.sql grants the tables.
RIGHTS = {
    "ledger": {
        "select": "message_id run_id batch job_id handled_at",
        "insert": "message_id run_id batch job_id",
        "delete": "",
    },
    "quarantine": {
        "insert": "job message_id run_id sent_at reasons masked_fields body is_sample",
    },
    "runs": {
        "select": f"run_id job {_COUNTS} {_EVENTS} {_FINDINGS}",
        "insert": "run_id job command version config_hash host",
        "update": f"{_COUNTS} {_EVENTS} {_FINDINGS} {_END}",
    },
    "jobs": {"select": "job_id job", "insert": "job_id job"},
    "job_columns": {
        "select": "job field",
        "insert": "job schema_name table_name column_name field",
    },
}


def problems_of_own_rights(
    connection: sa.Connection, table: Table, *, is_run: bool
) -> Iterator[str]:
    """What is missing, each with the statement to run.

    :param is_run: whether it is for a run, which also removes samples
    """
    role = connection.execute(sa.text("select current_user")).scalar_one()
    to_role = f"to {quoted(role)}"
    if not connection.execute(queries()["own_schema_usage"]).scalar():
        yield f"role {role!r} may not use schema 'etl'; run: grant usage on schema etl {to_role}"
    needed = [
        {"table": name, "privilege": privilege, "columns": columns.split()}
        for name, rights in RIGHTS.items()
        for privilege, columns in rights.items()
    ]
    parameters = {"rights": json.dumps(needed)}
    missing: dict[str, list[str]] = {}
    for name, privilege in connection.execute(queries()["missing_rights"], parameters):
        missing.setdefault(name, []).append(privilege)
    for name, privileges in missing.items():
        rights = ", ".join(privileges)
        yield (
            f"role {role!r} may not {rights.replace(', ', ' or ')} in table 'etl.{name}'; run: "
            f"grant {rights} on etl.{name} {to_role}"
        )
    hidden: dict[str, list[str]] = {}
    for name, privilege in connection.execute(queries()["missing_policies"], parameters):
        hidden.setdefault(name, []).append(privilege)
    for name, privileges in hidden.items():
        yield (
            f"table 'etl.{name}' has row-level security, and no policy lets role {role!r} "
            f"{' or '.join(privileges)}; run: alter table etl.{name} disable row level security"
        )
    target = {"schema": table.schema_name, "name": table.name, "is_run": is_run}
    for function in connection.execute(queries()["closed_functions"], target).scalars():
        yield (
            f"role {role!r} may not call function {function}; run: grant execute on function "
            f"{function} {to_role}"
        )
