"""The Grafana dashboard: it is what its program writes, and each of its queries works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from etl.postgres.engine import driver_url
from tests.conftest import Job
from tests.integration.promql import metrics_in, unknown_in
from tests.unit.builders import ROOT, event

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/etl.json").read_text())
VARIABLES: dict[str, dict[str, Any]] = {
    variable["name"]: variable for variable in DASHBOARD["templating"]["list"]
}
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if "targets" in panel]
TARGETS: dict[str, dict[str, Any]] = {panel["title"]: panel["targets"][0] for panel in PANELS}
PROMQL = {title: target["expr"] for title, target in TARGETS.items() if "expr" in target}
SQL = {title: target["rawSql"] for title, target in TARGETS.items() if "rawSql" in target} | {
    "variable job": VARIABLES["job"]["query"]
}


def test_the_dashboard_is_what_its_program_writes() -> None:
    """After a change, ``make dashboard`` writes it again."""
    pytest.importorskip("grafana_foundation_sdk", reason="make test installs requirements-ops.txt")
    from deploy.grafana import dashboard

    assert dashboard.dashboard_json() == dashboard.FILE.read_text()


def test_every_panel_has_one_query_and_a_title_of_its_own() -> None:
    """The tests below see all of them."""
    assert all(len(panel["targets"]) == 1 for panel in PANELS)
    assert len(TARGETS) == len(PANELS) == len(PROMQL) + len(SQL) - 1
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_no_panel_covers_another() -> None:
    """Each has its place on a grid of 24 columns."""
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))


@pytest.mark.parametrize("title", PROMQL)
def test_each_metric_and_label_of_a_panel_exists(title: str) -> None:
    """The program writes what the panel shows, with the labels in its legend."""
    expression = PROMQL[title]
    assert metrics_in(expression)
    assert unknown_in(expression) == set()
    legend = ", ".join(re.findall(r"\{\{(\w+)\}\}", TARGETS[title]["legendFormat"]))
    assert unknown_in(f"sum by ({legend}) ({expression})") == set()


def test_the_variable_of_the_queues_exists() -> None:
    """Its values come from a metric that every run writes."""
    assert VARIABLES["queue"]["query"] == "label_values(etl_build_info, queue)"
    assert unknown_in("sum by (queue) (etl_build_info)") == set()


def for_postgres(query: str, *jobs: str) -> str:
    """Replace what Grafana replaces: the time range, and the jobs that are chosen."""
    query = re.sub(
        r"\$__timeFilter\((\w+)\)",
        r"\1 BETWEEN now() - interval '30 days' AND now() + interval '1 minute'",
        query,
    )
    query = query.replace("${job:sqlstring}", ",".join(f"'{job}'" for job in jobs))
    assert "$" not in query
    return query


@pytest.fixture
def analyst(job: Job, postgres: EmbeddedPostgres) -> Iterator[sa.Connection]:
    """A connection with the rights of ``etl_analyst`` only, after two runs."""
    superuser = sa.make_url(postgres.superuser_url).set(database=job.engine.url.database)
    owner = superuser.render_as_string(hide_password=False)
    assert job.command("init", "--roles", DATABASE_URL=owner).returncode == 0
    job.send(event(), event(user_id="b"), event(ip="x"), "{")
    job.run(DATABASE_URL=owner)
    job.run(DATABASE_URL=owner)
    url = superuser.update_query_dict({"options": "-c role=etl_analyst"})
    engine = sa.create_engine(driver_url(url.render_as_string(hide_password=False)))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.long
def test_each_query_of_the_database_works_as_the_analyst(analyst: sa.Connection) -> None:
    """The panels show what the runs did, and read no table but ``etl.runs``."""
    assert analyst.execute(sa.text("select current_user")).scalar() == "etl_analyst"
    found: dict[str, list[dict[str, Any]]] = {}
    for title, query in SQL.items():
        text = for_postgres(query, "public.user_logins")
        plan = analyst.exec_driver_sql(f"explain (format json) {text}").scalar()
        relations = re.findall(r"'Relation Name': '([^']*)'", str(plan))
        assert set(relations) == {"runs"}, title
        found[title] = [dict(row) for row in analyst.exec_driver_sql(text).mappings()]
    assert found["variable job"] == [{"job": "public.user_logins"}]
    counts = ("exit_code", "received", "loaded", "already_handled", "quarantined", "released")
    runs = [tuple(row[name] for name in counts) for row in found["Runs"]]
    assert runs == [(0, 0, 0, 0, 0, 0), (0, 4, 2, 0, 2, 0)]
    nights = found["Deliveries of each night"]
    assert sum(row["loaded"] for row in nights) == 2
    shares = found["Share of each night's deliveries"]
    assert [row["quarantined"] for row in shares if row["quarantined"]] == [0.5]
    checks = {(row["column"], row["check"]): row["messages"] for row in found["Failed checks"]}
    assert checks == {("ip", "IP address"): 1, ("message", "JSON"): 1}


@pytest.mark.long
def test_the_queries_show_only_the_jobs_that_are_chosen(analyst: sa.Connection) -> None:
    """With another job, or none as before the first run, there is nothing to see and no error."""
    for title, query in SQL.items():
        if title != "variable job":
            for jobs in (["other"], ["other", "another"], []):
                rows = analyst.exec_driver_sql(for_postgres(query, *jobs)).all()
                assert rows == [], title
