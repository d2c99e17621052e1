"""Writes etl.json, the Grafana dashboard: ``make dashboard``.

The upper rows show the metrics, from Prometheus. The lower row is read from the table ``etl.runs``,
with the rights of ``etl_analyst``. No panel reads the target table or the quarantine, so none can
show a personal value or a token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import StackingConfig
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableModel,
    VariableRefresh,
)
from grafana_foundation_sdk.models.units import NoUnit, PercentUnit, Seconds, Short

FILE = Path(__file__).with_name("etl.json")

# Whoever looks at the dashboard chooses the data sources, since their ids differ everywhere.
PROMETHEUS = "prometheus"
POSTGRES = "grafana-postgresql-datasource"
METRICS = DataSourceRef(PROMETHEUS, "${metrics}")
DATABASE = DataSourceRef(POSTGRES, "${database}")

# Before the first run there is no job to choose. An empty array is fine then, while an empty list,
# "in ()", is a syntax error.
NIGHTS = """\
select started_at, job, command, stop_reason, exit_code,
       received, loaded, updated, skipped, already_handled, quarantined, released, batches,
       extract(epoch from coalesce(finished_at, seen_at) - started_at) as seconds, version
from etl.runs
where $__timeFilter(started_at) and job = any(array[${job:sqlstring}]::text[])
order by started_at desc
limit 500"""

OUTCOME = "{{queue}} {{outcome}}"
OUTCOMES = """\
select date_trunc('day', started_at) as time,
       sum(loaded) as loaded, sum(already_handled) as "already handled",
       sum(quarantined) as quarantined, sum(released) as released
from etl.runs
where $__timeFilter(started_at) and job = any(array[${job:sqlstring}]::text[]) and command = 'run'
group by 1
order by 1"""

# Handled already: redeliveries and, with ledger.key, messages that repeat a business id or a body.
SHARES = """\
select date_trunc('day', started_at) as time,
       sum(already_handled) / nullif(sum(received), 0) as "already handled",
       sum(quarantined) / nullif(sum(received), 0) as quarantined
from etl.runs
where $__timeFilter(started_at) and job = any(array[${job:sqlstring}]::text[]) and command = 'run'
group by 1
order by 1"""

FAILED_CHECKS = """\
select failed."column", failed."check", sum(failed.messages) as messages,
       count(distinct run_id) as runs, max(started_at) as last
from etl.runs,
     jsonb_to_recordset(failed_checks) as failed("column" text, "check" text, messages bigint)
where $__timeFilter(started_at) and job = any(array[${job:sqlstring}]::text[])
group by 1, 2
order by 3 desc
limit 100"""

JOBS = "select distinct job from etl.runs order by job"


@dataclass(frozen=True)
class SqlQuery(Builder[Dataquery], Dataquery):
    """A query of Grafana's Postgres data source, for which the library has no class."""

    sql: str
    format: Literal["time_series", "table"]

    def build(self) -> Dataquery:
        """The query is its own result."""
        return self

    def to_json(self) -> dict[str, object]:
        """The members that the data source reads."""
        return {
            "refId": "A",
            "format": self.format,
            "editorMode": "code",
            "rawQuery": True,
            "rawSql": self.sql,
        }


def of_queues(metric: str) -> str:
    """A metric of the queues that are chosen.

    Not of the jobs, since Prometheus may rename the label ``job``: see ../prometheus/alerts.yml.
    """
    return f'{metric}{{queue=~"$queue"}}'


def query(expression: str, legend: str = "{{queue}}") -> prometheus.Dataquery:
    """A query of Prometheus."""
    return prometheus.Dataquery().ref_id("A").expr(expression).legend_format(legend)


def number(title: str, expression: str, unit: str, red_from: float) -> stat.Panel:
    """The newest value for each queue: green, and red from a value on."""
    steps = [Threshold(None, "green"), Threshold(red_from, "red")]
    return (
        stat.Panel()
        .title(title)
        .datasource(METRICS)
        .with_target(query(expression).instant())
        .unit(unit)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .span(4)
        .height(5)
    )


def exit_code() -> stat.Panel:
    """How the last run of each queue ended, in words."""
    words = {
        "0": ValueMappingResult("done", "green"),
        "1": ValueMappingResult("1: stopped", "red"),
        "2": ValueMappingResult("2: configuration", "red"),
        "3": ValueMappingResult("3: too much quarantined", "red"),
    }
    panel = number("Last run", of_queues("etl_run_exit_code"), NoUnit, 1)
    return panel.mappings([ValueMap(words)])


def program_version() -> stat.Panel:
    """The version that ran last."""
    return (
        stat.Panel()
        .title("Version")
        .datasource(METRICS)
        .with_target(query(of_queues("etl_build_info"), "{{version}}").instant())
        .text_mode(common.BigValueTextMode.NAME)
        .span(4)
        .height(5)
    )


def curve(title: str, unit: str, metric: str, legend: str = "{{queue}}") -> timeseries.Panel:
    """A line for each series; a value holds until the next run."""
    return (
        timeseries.Panel()
        .title(title)
        .datasource(METRICS)
        .with_target(query(of_queues(metric), legend).range())
        .unit(unit)
        .line_interpolation(common.LineInterpolation.STEP_AFTER)
        .fill_opacity(10)
        .min(0)
        .span(8)
        .height(8)
    )


def nightly(title: str, unit: str, sql: str) -> timeseries.Panel:
    """A bar for each night."""
    return (
        timeseries.Panel()
        .title(title)
        .datasource(DATABASE)
        .with_target(SqlQuery(sql, "time_series"))
        .unit(unit)
        .draw_style(common.GraphDrawStyle.BARS)
        .stacking(StackingConfig().mode(common.StackingMode.NORMAL))
        .fill_opacity(80)
        .min(0)
        .span(12)
        .height(8)
    )


def listing(title: str, sql: str, width: int) -> table.Panel:
    """A table of what the database answers."""
    return (
        table.Panel()
        .title(title)
        .datasource(DATABASE)
        .with_target(SqlQuery(sql, "table"))
        .span(width)
        .height(10)
    )


def rows() -> dict[str, list[Builder[Panel]]]:
    """The panels of each row."""
    silence = f"time() - {of_queues('etl_run_last_success_timestamp_seconds')}"
    # A run asks for this number at its end only.
    dead_letters = f"last_over_time({of_queues('etl_dead_letter_messages')}[26h])"
    age = of_queues("etl_queue_oldest_message_age_seconds")
    check = "{{queue}} {{column}}: {{check}}"
    seconds = DynamicConfigValue("unit", Seconds)
    return {
        "Now": [
            number("Time since the last success", silence, Seconds, 26 * 3600),
            exit_code(),
            number("Dead letters", dead_letters, Short, 1),
            number("Not acknowledged", of_queues("etl_run_not_acknowledged"), Short, 1),
            number("Age of the oldest message", age, Seconds, 60 * 3600),
            program_version(),
        ],
        "Runs": [
            curve("Deliveries by outcome", Short, "etl_run_deliveries", OUTCOME),
            curve("Quarantined messages by check", Short, "etl_run_quarantined_messages", check),
            curve("Duration of the run", Seconds, "etl_run_duration_seconds"),
            curve("Messages in the queue", Short, "etl_queue_visible_messages"),
            curve("Dead letters over time", Short, "etl_dead_letter_messages"),
            curve("Ids in the ledger", Short, "etl_ledger_ids"),
            curve("Conflicts by outcome", Short, "etl_run_conflicts", OUTCOME).span(24),
        ],
        "Nights, from etl.runs": [
            nightly("Deliveries of each night", Short, OUTCOMES),
            nightly("Share of each night's deliveries", PercentUnit, SHARES),
            listing("Runs", NIGHTS, 16).override_by_name("seconds", [seconds]),
            listing("Failed checks", FAILED_CHECKS, 8),
        ],
    }


def variables() -> list[Builder[VariableModel]]:
    """What a person chooses at the top: the two data sources, queues and jobs."""
    return [
        DatasourceVariable("metrics").label("Prometheus").type(PROMETHEUS),
        DatasourceVariable("database").label("Postgres, as etl_analyst").type(POSTGRES),
        QueryVariable("queue")
        .label("Queue")
        .datasource(METRICS)
        .query("label_values(etl_build_info, queue)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*"),
        QueryVariable("job")
        .label("Job")
        .datasource(DATABASE)
        .query(JOBS)
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .multi(multi=True)
        .include_all(include_all=True),
    ]


def dashboard_json() -> str:
    """The text of the file."""
    builder = (
        Dashboard("etl: from SQS to Postgres")
        .uid("etl")
        .tags(["etl"])
        .time("now-30d", "now")
        .refresh("5m")
        .variables(variables())
    )
    for title, panels in rows().items():
        builder.with_row(Row(title))
        for panel in panels:
            builder.with_panel(panel)
    dashboard = builder.build()
    for number_of_panel, built in enumerate(dashboard.panels or [], start=1):
        built.id_val = number_of_panel
    return json.dumps(dashboard, cls=JSONEncoder, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(dashboard_json())
