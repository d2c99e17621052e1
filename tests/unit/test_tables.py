"""Tables fit the terminal: short where they must be, and never broken inside a word."""

from __future__ import annotations

import datetime as dt
import random
import re
import sys
from typing import Any

import pandas as pd
import pytest
from rich.cells import cell_len

from etl.terminal import cells, output
from etl.terminal.table import ASCII, Layout, Marks, layout

NOW = dt.datetime.now(dt.UTC)
TOKEN = "k1.1O_9HdPaoHuOxy6-zYGkp-IVNsDynjkqiibPwwO5cVQ"
RUN = "1a2b3c4d-263a-43a7-b91b-7ca1a833afae"
WIDTHS = (40, 80, 100, 160)
MARKS = Marks()


def logins(count: int = 3) -> pd.DataFrame:
    """Rows like those of the default table."""
    return pd.DataFrame(
        {
            "user_id": [RUN] * count,
            "device_type": ["android"] * count,
            "masked_ip": [TOKEN] * count,
            "masked_device_id": [TOKEN] * count,
            "locale": ["RU"] * count,
            "app_version": [2003000] * count,
            "create_date": [pd.Timestamp("2026-11-27")] * count,
        }
    )


def runs(**more: Any) -> pd.DataFrame:
    """Two rows like those of the history."""
    time = pd.Timestamp(NOW) - pd.Timedelta(days=1)
    facts = {
        "run_id": RUN,
        "job": "public.user_logins",
        "started_at": time,
        "finished_at": time,
        "received": 1_234_567,
        "already_handled": 12,
        "stop_reason": "max_seconds",
        "host": "worker-17.internal.example.org",
        **more,
    }
    return pd.DataFrame([facts, facts])


def text(shown: Layout) -> str:
    """The lines as one text."""
    return "\n".join(shown.lines)


def test_a_table_that_fits_is_shown_in_full() -> None:
    """And so is any table without a width, each row on one line."""
    for width in (200, None):
        shown = layout(logins(), width, MARKS)
        assert text(shown).count(TOKEN) == 6
        assert text(shown).count(RUN) == 3
        assert not shown.is_cut
        assert len(shown.lines) == 3 + 1 + 1 + 2


def test_tokens_and_ids_are_short_where_the_table_would_not_fit() -> None:
    """Eighty columns hold the default table, with each row on one line."""
    shown = layout(logins(), 80, MARKS)
    assert "k1.1O_9HdPa…" in text(shown)
    assert "1a2b3c4d…" in text(shown)
    assert shown.is_cut
    assert len([line for line in shown.lines if "android" in line]) == 3
    assert max(map(len, shown.lines)) <= 80


def test_a_run_has_an_id_that_can_be_copied() -> None:
    """The first eight characters, without a mark: they are enough to name the run."""
    shown = layout(runs(), 80, MARKS, ("run_id", "started_at", "received"))
    row = next(line for line in shown.lines if "1a2b" in line)
    assert re.match(r"  1a2b3c4d  ", row)


def test_what_matters_least_is_left_out_first_and_named() -> None:
    """The order of the columns stays."""
    importance = ("run_id", "stop_reason", "started_at", "received", "job")
    shown = layout(runs(), 60, MARKS, importance)
    assert shown.left_out
    assert "host" in shown.left_out
    kept = [name for name in runs().columns if name not in shown.left_out]
    assert {*kept} >= {*importance[:4]}
    head = " ".join(" ".join(shown.lines[i] for i in shown.heads).split())
    assert [name for name in kept if name.split("_")[0] in head] == kept


@pytest.mark.parametrize("width", WIDTHS)
def test_no_column_is_left_out_unless_the_caller_says_which(width: int) -> None:
    """Rows become lines instead, with the whole token where it fits."""
    wide = pd.concat([logins().add_suffix(f"_{n}") for n in range(3)], axis=1)
    shown = layout(wide, width, MARKS)
    assert not shown.left_out
    assert all(name in text(shown) for name in wide.columns)
    assert max(map(len, shown.lines)) <= width
    assert TOKEN in text(shown) or width == 40


def test_a_value_that_does_not_fit_beside_its_name_is_below_it() -> None:
    """In full, if a line is long enough."""
    value = "x" * 70
    shown = layout(pd.DataFrame({"c" * 30: [value], "d": [value]}), 80, MARKS)
    assert f"\n    {value}\n" in text(shown)
    assert not shown.is_cut


@pytest.mark.parametrize("seed", range(60))
def test_no_line_is_too_long_and_no_word_is_broken(seed: int) -> None:
    """For any table: each word of each cell is whole, or short in a known way."""
    made = random.Random(seed)
    values = {
        "words": lambda: " ".join(
            made.choices(("ticket", "4711", "漢字", "a"), k=made.randint(0, 9))
        ),
        "token": lambda: TOKEN,
        "id": lambda: RUN,
        "number": lambda: made.randint(0, 10**9),
        "time": lambda: pd.Timestamp(NOW),
        "reasons": lambda: [{"column": "ip", "check": "IP address"}] * made.randint(1, 3),
        "none": lambda: None,
    }
    kinds = made.choices(list(values), k=made.randint(1, 14))
    frame = pd.DataFrame(
        {
            f"{kind}_{number}": pd.Series([values[kind]() for _ in range(4)], dtype=object)
            for number, kind in enumerate(kinds)
        }
    )
    forms = {
        form
        for name in frame
        for value in frame[name]
        for form in (cells.full(value), cells.short(name, value, "…"))
    }
    known = {word for form in forms for word in form.split()}
    known |= {*NOW.strftime("%H:%M %m-%d %Y-%m-%d").split()}
    known |= {part for name in frame for part in (name, *re.findall(r"[^_]+_?", name))}
    for width in WIDTHS:
        shown = layout(frame, width, MARKS)
        assert max(map(cell_len, shown.lines)) <= width, text(shown)
        words = {word for line in shown.lines for word in line.split()}
        assert {word for word in words if {*word} != {"─"}} <= known, text(shown)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([dt.timedelta()], "%H:%M"),
        ([dt.timedelta(), dt.timedelta(days=2)], "%m-%d %H:%M"),
        ([dt.timedelta(days=2), dt.timedelta(days=400)], "%Y-%m-%d"),
    ],
)
def test_times_are_short_in_one_form(times: list[dt.timedelta], expected: str) -> None:
    """Without the date if all are of today, and with the year if one is old."""
    now = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)
    values = [pd.Timestamp(now - ago) for ago in times]
    assert cells.short_times([*values, None], now) == [v.strftime(expected) for v in values] + [""]


def test_a_date_is_not_cut() -> None:
    """It is short already."""
    assert cells.short_times([pd.Timestamp("2019-01-02")], NOW) == ["2019-01-02"]


def test_what_is_no_token_and_no_id_is_whole() -> None:
    """A user's name may look like anything."""
    for value in ("k1.short", "1a2b3c4d", "12345678901234567890x", "x" * 60, "a.b"):
        assert cells.short("user_id", value, "…") == value


def test_reasons_and_lists_read_as_words() -> None:
    """Not as Python."""
    reasons = [{"column": "ip", "check": "IP address"}, {"column": "locale", "check": "length"}]
    assert cells.full(reasons) == "ip: IP address, locale: length"
    assert cells.full(["ip", "device_id"]) == "ip, device_id"
    assert cells.full(None) == ""


def test_a_terminal_without_these_characters_gets_ascii() -> None:
    """And its table is as wide."""
    shown = layout(logins(), 80, ASCII)
    assert "k1.1O_9HdPa~" in text(shown)
    assert text(shown).isascii()
    assert max(map(len, shown.lines)) <= 80


def test_a_pipe_gets_every_value_and_no_hint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However narrow COLUMNS says a terminal is."""
    monkeypatch.setenv("COLUMNS", "40")
    output.table(runs(problem="a " * 6000 + "b"), "runs", as_json=False)
    printed = capsys.readouterr()
    assert printed.err == ""
    rows = [line for line in printed.out.splitlines() if RUN in line]
    assert len(rows) == 2
    assert all("a " * 6000 + "b" in row for row in rows)
    assert printed.out.startswith("runs (times in UTC)\n")


@pytest.mark.parametrize("wide", [False, True])
def test_a_terminal_is_told_what_is_missing(
    wide: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --wide nothing is."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "dumb")
    output.table(runs(), "runs", as_json=False, wide=wide, importance=("run_id", "started_at"))
    printed = capsys.readouterr()
    assert (RUN in printed.out) == wide
    assert ("--wide" in printed.err) == (not wide)
    assert ("left out: " in printed.err) == (not wide)
