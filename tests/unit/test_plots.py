"""The pictures of the notebooks, drawn from frames that live data seldom gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from etl.analysis.duplicates import Linked
from notebooks import plots

LOCALES = pd.DataFrame(
    [("no locale", True, 3, 0.75), ("$N_A", False, 1, 0.25)],
    columns=["locale", "absent", "logins", "share"],
)
VERSIONS = pd.DataFrame([(2, 0, 7)], columns=["major", "minor", "logins"])
DAYS = pd.DataFrame([(pd.Timestamp("2026-11-22"), 5, 0)], columns=["day", "rows", "surplus_rows"])
USERS = pd.DataFrame([("masked_ip", 1, 4)], columns=["column", "users", "values"])
RUNS = pd.DataFrame(
    [(1, 0, 0, float("nan"), float("nan")), (2, 4, 1, 0.25, 1.5)],
    columns=["run", "received", "quarantined", "quarantined_share", "seconds"],
)
CHECKS = pd.DataFrame([("ip", "type", 3, 1)], columns=["column", "check", "messages", "runs"])
BY_RUN = pd.DataFrame(
    [(1, "ip", "type", 0, float("nan")), (2, "ip", "type", 3, 0.75)],
    columns=["run", "column", "check", "messages", "share"],
)
LINKED = Linked(
    groups=pd.DataFrame([(1, 2, 1, "1 masked_ip")], columns=["group", "users", "values", "why"]),
    ties=pd.DataFrame(
        [(1, "masked_ip", "k1.a", 2, 2)], columns=["group", "column", "value", "users", "rows"]
    ),
    edges=pd.DataFrame(
        [(1, "masked_ip", "k1.a", "ann", 1), (1, "masked_ip", "k1.a", "bob", 1)],
        columns=["group", "column", "value", "user", "rows"],
    ),
    total=pd.DataFrame([(1, 2, 2)], columns=["groups", "users", "largest"]),
)
DRAWN: dict[Any, Any] = {
    plots.locales: LOCALES,
    plots.versions: VERSIONS,
    plots.over_time: DAYS,
    plots.users_per_value: USERS,
    plots.linked_groups: LINKED,
    plots.quarantined_share: RUNS,
    plots.checks_that_fail_most: CHECKS,
    plots.checks_by_run: BY_RUN,
    plots.run_speed: RUNS,
}

each_picture = pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that were shown, drawn to the last pixel; what is set is set back."""
    figures: list[Any] = []

    def show() -> None:
        plt.gcf().canvas.draw()
        figures.append(plt.gcf())

    monkeypatch.setattr(plt, "show", show)
    backend = mpl.get_backend()
    plt.switch_backend("agg")
    with mpl.rc_context():
        plots.style()
        yield figures
    plt.close("all")
    plt.switch_backend(backend)


def without_rows(given: Any) -> Any:
    """The same, of an empty table."""
    if isinstance(given, Linked):
        return Linked(**{name: frame.head(0) for name, frame in vars(given).items()})
    return given.head(0)


@each_picture
def test_one_row_makes_a_picture_with_a_title(draw: Any, shown: list[Any]) -> None:
    """And labels on the axes, but for networks."""
    draw(DRAWN[draw])
    (figure,) = shown
    titles = [figure.get_suptitle(), *(axes.get_title("left") for axes in figure.axes)]
    assert any(titles)
    if draw is not plots.linked_groups:
        assert any(axes.get_xlabel() for axes in figure.axes)
        assert any(axes.get_ylabel() for axes in figure.axes)


@each_picture
def test_no_row_makes_no_picture(
    draw: Any, shown: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """But says so."""
    draw(without_rows(DRAWN[draw]))
    assert shown == []
    assert capsys.readouterr().out == "no rows yet, so there is nothing to draw\n"


@pytest.mark.parametrize("surges", [BY_RUN.head(0), BY_RUN.tail(1)], ids=["none", "one"])
def test_trends_are_drawn_with_and_without_a_surge(surges: pd.DataFrame, shown: list[Any]) -> None:
    """It stands in the legend by its name."""
    plots.check_trends(BY_RUN, surges)
    legend = [text.get_text() for text in shown[0].axes[0].get_legend().get_texts()]
    assert legend == ["ip: type"] * len(surges) + ["every other check"]


def test_trends_without_runs_make_no_picture(shown: list[Any]) -> None:
    """An empty database."""
    plots.check_trends(BY_RUN.head(0), BY_RUN.head(0))
    assert shown == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 seconds"), (90, "90 seconds"), (1_920, "32 minutes"), (9e3, "2 hours"),
     (1e6, "12 days")],
)  # fmt: skip
def test_a_duration_is_written_in_the_largest_unit_that_it_fills(
    seconds: float, words: str
) -> None:
    """Twice."""
    assert plots.duration(seconds) == words
