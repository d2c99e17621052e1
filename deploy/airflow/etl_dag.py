"""A run every night by Airflow 3: copy this file into its folder of DAGs.

The worker has the wheel installed in /opt/etl and the settings in /etc/etl/config.yaml.
ETL_QUEUE__URL, ETL_KEYRING_FILE, DATABASE_URL and the AWS variables are in its own environment.

A task that is told to end passes SIGTERM on. The run is in a session of its own: it finishes the
batch in hand and releases the rest, even if Airflow kills the task 5 seconds later. So give the
worker itself, or its pod, more time to stop than a batch has: database.answer_seconds (600) and a
minute.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

PROGRAM = "/opt/etl/bin/etl"
NEED_A_PERSON = (2, 3)  # exit codes that Airflow must not try again


class EtlRun(BaseOperator):
    """Run ``etl run``. Its output is the task's log; the summary, a JSON line, is its result."""

    def __init__(self, *, cwd: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.cwd = cwd
        self.hook = SubprocessHook()

    def execute(self, context: Any) -> str:  # noqa: ARG002
        """Run it to its end; exit code 1 may be tried again."""
        done = self.hook.run_command([PROGRAM, "run", "--json"], cwd=self.cwd)
        if done.exit_code in NEED_A_PERSON:
            raise AirflowFailException(f"exit code {done.exit_code}: see the log")
        if done.exit_code:
            raise AirflowException(f"exit code {done.exit_code}")
        return done.output

    def on_kill(self) -> None:
        """Pass a SIGTERM on."""
        self.hook.send_sigterm()


with DAG(
    dag_id="etl",
    description="Load events from SQS into Postgres with the personal columns masked",
    schedule="17 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["etl"],
) as dag:
    EtlRun(task_id="run", cwd="/etc/etl", retries=2, retry_delay=timedelta(minutes=10))
