"""The report counts in memory what Postgres would answer to each question."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from etl.analysis import named
from etl.analysis.at_once import AtOnce, ask_postgres
from etl.analysis.digests import read_digests
from etl.analysis.linked import Linked
from etl.analysis.opening import open_source
from etl.analysis.reader import CannotCount, Reader
from etl.analysis.source import Source
from etl.analysis.tally import largest, sorted_rows
from etl.report.build import Choice, build_report
from etl.report.html import render
from tests.conftest import ROOT
from tests.integration.test_duplicates import SLOW, create, fill, source, tables, token

__all__ = ["source"]

FRAMES = ("groups", "ties", "edges", "total")


def questions(draw: Any) -> dict[str, dict[str, Any]]:
    """Draw every question with its options."""
    top = draw(st.sampled_from([None, 1, 2, 5, 20]))
    at_least = draw(st.integers(2, 4))
    limits = {"max_ties": draw(st.integers(1, 4)), "max_users": draw(st.integers(1, 4))}
    return {
        "headline": {},
        "exact_rows": {"top": top},
        "over_time": {},
        "column_totals": {},
        "shared_values": {"min_users": at_least, "top": top},
        "users_with_many": {"min_values": at_least, "top": top},
        "distribution": {},
        "repeats": {"within_seconds": draw(st.sampled_from([None, 0, 1, 0.5, 86_400])), "top": top},
        "linked": {
            "exclude_shared": draw(st.sampled_from([None, 2, 3, 5])),
            "min_users": at_least,
            "top": top or 10,
            **limits,
        },
        "token_keys": {},
    }


def check(source: Source, by: str | None, asked: dict[str, dict[str, Any]]) -> None:
    """Compare all answers, their types and their queries."""
    with source.snapshot() as snapshot:
        at_once = AtOnce(snapshot, by)
        for question, options in asked.items():
            ours = at_once.ask(question, **options)
            theirs = ask_postgres(snapshot, by, question, **options)
            if isinstance(ours, Linked):
                for name in FRAMES:
                    same(getattr(ours, name), getattr(theirs, name))
            else:
                same(ours, theirs)


def same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Compare two frames."""
    # Counts that no type of Postgres has decided.
    is_typed = len(theirs) > 0 or "query" in theirs.attrs
    assert_frame_equal(ours, theirs, check_dtype=is_typed)
    assert ours.attrs == theirs.attrs


@examples(max_examples=20, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_every_answer_is_that_of_postgres(source: Source, data: st.DataObject) -> None:
    """The tables are those of the tests that compare Postgres with pandas."""
    check_drawn_table(source, data)


@pytest.mark.long
@examples(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_every_answer_about_more_tables_is_that_of_postgres(
    source: Source, data: st.DataObject
) -> None:
    """As above."""
    check_drawn_table(source, data)


def check_drawn_table(source: Source, data: st.DataObject) -> None:
    """Fill the table, and compare the answers."""
    fill(source, data.draw(tables(source)))
    by = data.draw(st.sampled_from([None, *[c for c in source.columns if c != source.entity.name]]))
    period = data.draw(st.sampled_from([None, "2026-03-29", "2026-03-29T00:01:00", "2026-03-30"]))
    chosen = source.between(since=period)
    check(chosen, by, questions(data.draw))


ROWS = [
    {"user_id": user, "masked_ip": token(i % 3), "create_date": "2026-11-01", "locale": "x"}
    for i, user in enumerate("aabbccdd")
]
ALL: dict[str, dict[str, Any]] = {
    "headline": {},
    "exact_rows": {"top": 20},
    "over_time": {},
    "column_totals": {},
    "shared_values": {"min_users": 2, "top": 20},
    "users_with_many": {"top": 20},
    "distribution": {},
    "repeats": {"within_seconds": None, "top": 20},
    "linked": {"exclude_shared": None, "min_users": 2, "top": 20},
    "token_keys": {},
}


@pytest.fixture
def logins(database_url: str) -> Iterator[Source]:
    """The default table with a few logins."""
    opened = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    create(opened)
    fill(opened, ROWS)
    yield opened
    opened.engine.dispose()


def execute(source: Source, *statements: str) -> None:
    """Change the database of a source."""
    with source.engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def statements_of(source: Source) -> list[str]:
    """Build a report; return the statements that name the table, without those for names."""
    seen: list[str] = []
    listen = partial(_note, seen)
    sa.event.listen(source.engine, "before_cursor_execute", listen)
    try:
        build_report(source, Choice())
    finally:
        sa.event.remove(source.engine, "before_cursor_execute", listen)
    return [text for text in seen if '"user_logins"' in text and "chosen" not in text]


def _note(seen: list[str], connection: Any, cursor: Any, text: str, *rest: Any) -> None:
    seen.append(text)


def test_the_report_reads_the_table_once(logins: Source) -> None:
    """Only the question whether it can is asked before; COPY passes SQLAlchemy by."""
    assert len(statements_of(logins)) == 1
    changed = logins.settings.report.model_copy(update={"memory_mb": 1})
    settings = logins.settings.model_copy(update={"report": changed})
    assert len(statements_of(dataclasses.replace(logins, settings=settings))) > 10


def test_names_that_are_too_many_are_left_to_postgres(
    logins: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "MAX_ROWS", 0)
    check(logins, None, {name: options for name, options in ALL.items() if name != "token_keys"})


def without_places(source: Source) -> None:
    execute(
        source,
        "alter table user_logins rename to logins",
        "create view public.user_logins as select * from logins",
    )


def with_an_endless_time(source: Source) -> None:
    execute(source, "update user_logins set create_date = 'infinity' where user_id = 'a'")


def with_a_type_without_hash(source: Source) -> None:
    execute(source, "alter table user_logins alter locale type bit using b'1'")


def with_a_type_of_equal_hashes(source: Source) -> None:
    execute(source, "alter table user_logins alter locale type numeric using 'NaN'")


@pytest.mark.parametrize(
    "change",
    [
        without_places,
        with_an_endless_time,
        with_a_type_without_hash,
        with_a_type_of_equal_hashes,
    ],
)
def test_rows_that_cannot_be_counted_are_left_to_postgres(
    change: Callable[[Source], None], logins: Source
) -> None:
    """The report is the same; the place of a row, the type of a column or a time is the reason."""
    change(logins)
    with pytest.raises(CannotCount), logins.snapshot() as snapshot:
        AtOnce(snapshot, None)
    report = build_report(logins, Choice())
    assert (report.rows, report.users) == (8, 4)


@pytest.mark.parametrize(
    ("type_name", "values"),
    [
        ("bigint", ("1", "4294967296")),
        ("timestamp", ("2000-01-01 00:00:00.000001", "2000-01-01 01:11:34.967296")),
        ("timestamptz", ("2000-01-01 00:00:00.000001+00", "2000-01-01 01:11:34.967296+00")),
    ],
)
def test_values_that_postgres_gives_equal_hashes_are_not_equal(
    type_name: str, values: tuple[str, str], logins: Source
) -> None:
    """Postgres folds 64 bits into 32 before it hashes a number or a time."""
    execute(
        logins,
        f"alter table user_logins alter locale type {type_name} using '{values[0]}'",
        f"insert into user_logins (user_id, masked_ip, create_date, locale) "
        f"select user_id, masked_ip, create_date, '{values[1]}' from user_logins",
    )
    check(logins, "locale", ALL)


def test_no_two_reports_have_the_same_hashes(logins: Source) -> None:
    """Whoever knew the seed could choose names that are counted as one."""
    with logins.snapshot() as snapshot:
        first, second = (read_digests(snapshot, ["masked_ip"], {}) for _ in range(2))
    assert (first.places == second.places).all()
    for one, other in zip(
        [*first.values.values(), first.rows], [*second.values.values(), second.rows], strict=True
    ):
        assert (one != other).all()


def test_rows_are_named_as_they_were_when_they_were_counted(logins: Source) -> None:
    """Other transactions change rows meanwhile, and so their places."""
    with logins.snapshot() as snapshot:
        at_once = AtOnce(snapshot, None)
        execute(logins, "update user_logins set user_id = 'z', masked_ip = null")
        for question in ("shared_values", "users_with_many", "token_keys"):
            ours = at_once.ask(question, **ALL[question])
            assert len(ours) > 0
            same(ours, ask_postgres(snapshot, None, question, **ALL[question]))


@pytest.mark.parametrize("memory_mb", [2048, 1])
def test_a_report_needs_one_connection(logins: Source, memory_mb: int) -> None:
    """So a role may be limited to one, and the keys are those of the same snapshot."""
    opened: list[Any] = []
    sa.event.listen(logins.engine, "connect", lambda *given: opened.append(given))
    changed = logins.settings.report.model_copy(update={"memory_mb": memory_mb})
    settings = logins.settings.model_copy(update={"report": changed})
    logins.engine.dispose()
    build_report(dataclasses.replace(logins, settings=settings).between("2026-11-01"), Choice())
    # One that is interrupted is closed before another is opened.
    assert len(opened) == (1 if memory_mb > 1 else 2)


def test_rows_of_all_partitions_are_found(logins: Source) -> None:
    """Rows of different partitions may have the same place in theirs."""
    execute(
        logins,
        "alter table user_logins rename to old",
        "create table public.user_logins (like old) partition by list (user_id)",
        *(
            f"create table part_{user} partition of public.user_logins for values in ('{user}')"
            for user in "abcd"
        ),
        "insert into public.user_logins select * from old",
    )
    check(logins, None, ALL)


def test_many_masked_columns_and_a_table_without_time(database_url: str, tmp_path: Path) -> None:
    """The table has no time column, and the user column is masked too."""
    text = {"max_length": 128, "type": "text", "nullable": True, "mask": True}
    columns = [{"name": f"c{i}", "field": f"f{i}", **text} for i in range(11)]
    file = tmp_path / "wide.yaml"
    file.write_text(yaml.safe_dump({"table": {"name": "wide", "columns": columns}}))
    wide = open_source(file, {"DATABASE_URL": database_url})
    create(wide)
    fill(wide, [{f"c{i}": token((row * i) % 5) for i in range(11)} for row in range(30)])
    check(wide, None, ALL)
    wide.engine.dispose()


def test_plain_values_are_counted_and_not_shown(logins: Source) -> None:
    """They were stored before the column was masked."""
    execute(
        logins,
        "alter table user_logins drop constraint if exists masked_ip_is_token",
        "insert into user_logins (user_id, masked_device_id) "
        "select name, 'device of Ann' from unnest(array['a', 'b', 'b']) as names (name)",
    )
    check(logins, None, ALL)
    report = build_report(logins, Choice())
    assert "Ann" not in render(report)
    assert any("not tokens are not shown: 3 of 'masked_device_id'" in note for note in report.notes)


def test_an_interrupted_reading_closes_its_connection(
    logins: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback would first receive the rest of the rows."""

    def interrupt(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reader, "write", interrupt)
    closed: list[Any] = []
    sa.event.listen(logins.engine, "invalidate", lambda *given: closed.append(given))
    with pytest.raises(KeyboardInterrupt), logins.snapshot() as snapshot:
        AtOnce(snapshot, None)
    assert len(closed) == 1
    monkeypatch.undo()
    assert build_report(logins, Choice()).rows == 8


def test_a_type_does_not_depend_on_rows_that_are_cut(logins: Source) -> None:
    """One row of two that have as many copies is shown, and the other one has the null."""
    execute(
        logins,
        "update user_logins set masked_ip = null",
        "update user_logins set app_version = 1 where user_id = 'a'",
    )
    check(logins, None, {"exact_rows": {"top": 1}})


def test_many_equal_counts_are_cut_after_the_last_of_them() -> None:
    """Which of them is shown depends on their names, which are not known yet."""
    frame = pd.DataFrame({"group": [1, 1, 1, 2, 2], "n": [5, 3, 3, 1, 9], "m": [0, 1, 1, 0, 0]})
    assert largest(frame, ["n", "m"], 1)["n"].tolist() == [9]
    assert largest(frame, ["n", "m"], 3)["n"].tolist() == [9, 5, 3, 3]
    best = largest(frame, ["n", "m"], 2, ["group"])
    assert best[["group", "n"]].to_numpy().tolist() == [[1, 5], [1, 3], [1, 3], [2, 9], [2, 1]]


def test_hashes_that_begin_with_the_same_bits_are_sorted_by_the_others() -> None:
    """The row takes the place of a hash's last bits while the hashes are sorted."""
    random = np.random.default_rng()
    for rows in (0, 1, 2, 1_000):
        for low, high in ((-(2**63), 2**63), (-5, 5), (0, 1)):
            hashes = random.integers(low, high, rows)
            order = sorted_rows(hashes)
            assert hashes[order].view(np.uint64).tolist() == sorted(hashes.view(np.uint64).tolist())
            assert sorted(order.tolist()) == list(range(rows))
