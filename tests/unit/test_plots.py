"""The plots of the notebooks, drawn from frames that are rare in real data."""

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
INPUTS: dict[Any, Any] = {
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

each_plot = pytest.mark.parametrize("draw", INPUTS, ids=lambda draw: draw.__name__)


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that a test shows, rendered; matplotlib's settings are restored afterwards."""
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
    """The same input from an empty table."""
    if isinstance(given, Linked):
        return Linked(**{name: frame.head(0) for name, frame in vars(given).items()})
    return given.head(0)


@each_plot
def test_one_row_makes_a_plot_with_a_title(draw: Any, shown: list[Any]) -> None:
    """The axes have labels too, except around networks."""
    draw(INPUTS[draw])
    (figure,) = shown
    titles = [figure.get_suptitle(), *(axes.get_title("left") for axes in figure.axes)]
    assert any(titles)
    if draw is not plots.linked_groups:
        assert any(axes.get_xlabel() for axes in figure.axes)
        assert any(axes.get_ylabel() for axes in figure.axes)


@each_plot
def test_no_rows_make_a_message_and_no_plot(
    draw: Any, shown: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    draw(without_rows(INPUTS[draw]))
    assert shown == []
    assert capsys.readouterr().out == "no rows yet, so there is nothing to draw\n"


@pytest.mark.parametrize("surges", [BY_RUN.head(0), BY_RUN.tail(1)], ids=["none", "one"])
def test_trends_are_drawn_with_and_without_a_surge(surges: pd.DataFrame, shown: list[Any]) -> None:
    """The legend names each check that surged."""
    plots.check_trends(BY_RUN, surges)
    legend = [text.get_text() for text in shown[0].axes[0].get_legend().get_texts()]
    assert legend == ["ip: type"] * len(surges) + ["every other check"]


def test_trends_without_runs_make_no_plot(shown: list[Any]) -> None:
    plots.check_trends(BY_RUN.head(0), BY_RUN.head(0))
    assert shown == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 seconds"),
        (90, "90 seconds"),
        (1_920, "32 minutes"),
        (9e3, "2 hours"),
        (1e6, "12 days"),
    ],
)
def test_a_duration_is_in_the_largest_unit_that_it_fills_twice(seconds: float, words: str) -> None:
    assert plots.duration(seconds) == words
