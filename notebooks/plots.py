"""The plots of the notebooks: each function draws one frame and shows it.

The frames come from functions of ``etl``, which document their columns. Colours are those of Okabe
and Ito, which people with any kind of colour vision can tell apart; marks and positions repeat what
the colours say. This is one file because a notebook imports it by name from its own folder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import PercentFormatter

if TYPE_CHECKING:
    from etl.analysis.duplicates import Linked

Looks = dict[str, tuple[str, str]]  # colour and marker by name
Positions = dict[str, Sequence[float]]  # by node

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
FAINT, PALE = "#aaaaaa", "#dddddd"

GREEN, PINK, SKY = "#009E73", "#CC79A7", "#56B4E9"
LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "D"), (PINK, "v"), (SKY, "^"))
COLUMN_LOOKS = LOOKS[1:]  # the first is for users

HEIGHT_INCHES = 3.8
DURATIONS = {"a second": 1, "a minute": 60, "an hour": 3_600, "a day": 86_400}
SPACES = {"all device ids 000-00-0000": 10**9, "all IPv4 addresses": 2**32}
VALUE_BYTES = {"IPv6": (2, 39), "device id": (11, 11), "IPv4": (7, 15)}  # shortest, longest


def style() -> None:
    """Set the style of all plots."""
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.figsize": (8, HEIGHT_INCHES),
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "axes.titlepad": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun: 1 user, 2,000 users."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def _is_empty(frame: pd.DataFrame) -> bool:
    """Say whether a frame has no rows, and print a message if so."""
    if frame.empty:
        print("no rows yet, so there is nothing to draw")
    return frame.empty


# 01_first_look


def locales(logins: pd.DataFrame) -> None:
    """Draw ``locale``, ``absent``, ``logins`` and ``share`` as bars; absent locales are grey."""
    if _is_empty(logins):
        return
    absent = logins.loc[logins["absent"], "share"].sum()
    _, axes = plt.subplots()
    colours = np.where(logins["absent"], GREY, BLUE).tolist()
    bars = axes.barh(logins["locale"], logins["logins"], color=colours)
    axes.bar_label(bars, [f"{share:.0%}" for share in logins["share"]], padding=4)
    axes.set(
        title=f"{absent:.0%} of the logins have no locale (NA is Namibia)",
        xlabel="logins",
        ylabel="locale",
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    plt.show()


def versions(logins: pd.DataFrame) -> None:
    """Draw ``major``, ``minor`` and ``logins``, with a panel for each major version."""
    if _is_empty(logins):
        return
    majors = logins["major"].unique()
    figure, panels = plt.subplots(1, len(majors), sharey=True, squeeze=False)
    for axes, major in zip(panels[0], majors, strict=True):
        part = logins[logins["major"] == major]
        axes.bar(part["minor"], part["logins"], color=BLUE)
        axes.set(xlabel=f"minor version of {major}.x")
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0][0].set(ylabel="logins")
    panels[0][0].yaxis.set_major_formatter("{x:,.0f}")
    top = logins.loc[logins["logins"].idxmax()]
    figure.suptitle(
        f"{len(logins)} releases are in use; the most used, {top['major']}.{top['minor']}, has "
        f"{top['logins'] / logins['logins'].sum():.1%} of the logins",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    plt.show()


# 02_duplicates


def over_time(days: pd.DataFrame) -> None:
    """Draw ``duplicates.over_time``: rows in one panel, surplus rows in the one below."""
    if _is_empty(days):
        return
    worst = days.loc[days["surplus_rows"].idxmax()]
    _, panels = plt.subplots(2, sharex=True, figsize=(8, 4.6))
    for axes, part, colour in ((panels[0], "rows", GREY), (panels[1], "surplus_rows", ORANGE)):
        bars = axes.bar(days["day"].dt.strftime("%d %b"), days[part], color=colour)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.set(ylabel=part.replace("_", " "))
        axes.margins(y=0.2)
        axes.yaxis.set_major_formatter("{x:,g}")
    panels[0].set(
        title=f"{worst['surplus_rows']:,} of {count(days['surplus_rows'].sum(), 'surplus row')} "
        f"came on {worst['day']:%d %b}"
    )
    panels[1].set(xlabel="day (UTC)")
    panels[1].tick_params("x", rotation=0 if len(days) < 12 else 90)
    plt.show()


def users_per_value(distribution: pd.DataFrame) -> None:
    """Draw ``duplicates.distribution`` on logarithmic axes, summed from the right."""
    if _is_empty(distribution):
        return
    _, axes = plt.subplots(figsize=(8, 4.4))
    for (column, part), (colour, marker) in zip(
        distribution.groupby("column", sort=False), itertools.cycle(COLUMN_LOOKS), strict=False
    ):
        at_least = part["values"][::-1].cumsum()[::-1]
        axes.loglog(
            part["users"],
            at_least,
            color=colour,
            marker=marker,
            ms=5,
            label=column,
            drawstyle="steps-pre",
        )
    shared = distribution.loc[distribution["users"] > 1, "values"].sum()
    axes.set(
        title=f"{shared:,} of {count(distribution['values'].sum(), 'value')} have several users, "
        f"one has {distribution['users'].max():,}",
        xlabel="users, at least",
        ylabel="values with at least this many users",
    )
    _plain_numbers(axes)
    axes.grid(which="major", color=PALE)
    axes.legend()
    plt.show()


def linked_groups(linked: Linked, max_groups: int = 6) -> None:
    """Draw the largest groups of ``duplicates.linked`` as networks of users and shared values."""
    if _is_empty(linked.groups):
        return
    drawn = linked.groups.head(max_groups)
    columns = list(dict.fromkeys(linked.ties["column"]))
    looks = dict(zip(columns, itertools.cycle(COLUMN_LOOKS), strict=False))
    rows = math.ceil(max_groups / 3)
    figure, panels = plt.subplots(rows, 3, figsize=(8, 2.9 * rows))
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, group in zip(panels.flat, drawn.itertuples(), strict=False):
        axes.set_title(f"group {group.group}: {count(group.users, 'user')}", fontsize=11)
        _network(axes, linked.edges[linked.edges["group"] == group.group], looks)
    keys = [plt.Line2D([], [], color=BLUE, marker="o", ls="", label="user")]
    keys += [
        plt.Line2D([], [], color=colour, marker=marker, ls="", label=name)
        for name, (colour, marker) in looks.items()
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    figure.suptitle(
        f"The largest {len(drawn)} of {count(linked.total['groups'].sum(), 'linked group')}",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    plt.show()


def _network(axes: Axes, edges: pd.DataFrame, looks: Looks) -> None:
    users = "user " + edges["user"].astype(str)
    values = edges["column"] + " " + edges["value"].astype(str)
    graph = nx.Graph(list(zip(users, values, strict=True)))
    positions = nx.spring_layout(graph, seed=1, iterations=200)
    nx.draw_networkx_edges(graph, positions, ax=axes, edge_color=FAINT)
    _draw_nodes(axes, positions, users, BLUE, "o", 45)
    for column, (colour, marker) in looks.items():
        _draw_nodes(axes, positions, values[edges["column"] == column], colour, marker, 75)
    axes.margins(0.12)


def _draw_nodes(
    axes: Axes, positions: Positions, names: pd.Series, colour: str, marker: str, size: int
) -> None:
    points = np.reshape([positions[name] for name in names.unique()], (-1, 2))
    axes.scatter(*points.T, size, colour, marker=marker, zorder=2)


# 03_masking


def few_values(guesses: pd.DataFrame) -> None:
    """Draw ``exposure.guesses_by_rank`` for a column with few values, as pairs of bars."""
    _, axes = plt.subplots()
    for offset, part, label, colour in (
        (-0.2, "known_share", "plain values, from another source", GREY),
        (0.2, "share", "tokens, in the masked column", BLUE),
    ):
        axes.bar(guesses["rank"] + offset, guesses[part], width=0.4, color=colour, label=label)
    highest = guesses[["share", "known_share"]].max(axis=1)
    for rank, height, right in zip(guesses["rank"], highest, guesses["right"], strict=True):
        note, colour = ("right", "black") if right else ("wrong", ORANGE)
        _annotate(axes, note, (rank, height), (0, 4), ha="center", color=colour)
    axes.set(
        title=f"Rank alone gives {guesses['right'].sum()} of {count(len(guesses), 'value')} away, "
        f"in {_share_of_right(guesses)} of the rows",
        xlabel="rank by frequency",
        ylabel="share of the rows",
        xticks=guesses["rank"],
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()
    plt.show()


def many_values(guesses: pd.DataFrame) -> None:
    """Draw ``exposure.guesses_by_rank`` for a column with many values, on logarithmic axes."""
    _, axes = plt.subplots()
    for right, label, colour, marker in (
        (False, "guessed wrong", GREY, "."),
        (True, "guessed right", ORANGE, "D"),
    ):
        part = guesses[guesses["right"] == right]
        axes.loglog(part["rank"], part["rows"], marker, color=colour, ms=7, label=label)
    axes.set(
        title=f"Rank alone gives {guesses['right'].sum():,} of {count(len(guesses), 'value')} "
        f"away, in {_share_of_right(guesses)} of the rows",
        xlabel="rank by frequency",
        ylabel="rows with the token",
    )
    _plain_numbers(axes)
    axes.legend()
    plt.show()


def search_time(times: pd.DataFrame) -> None:
    """Draw ``exposure.search_times``, and how long all values of a kind take at the same rate."""
    _, axes = plt.subplots(figsize=(8, 4.4))
    last = times.iloc[-1]
    rate = last["tried"] / last["seconds"]
    largest = max(SPACES.values())
    axes.loglog(
        [last["tried"], largest],
        [last["seconds"], largest / rate],
        "--",
        color=GREY,
        label="at this rate",
    )
    axes.loglog(times["tried"], times["seconds"], "o-", color=BLUE, label="measured")
    for space, size in SPACES.items():
        axes.plot(size, size / rate, "D", color=ORANGE)
        note = f"{space}: {duration(size / rate)}"
        _annotate(axes, note, (size, size / rate), (12, -8), va="center")
    for name, seconds in DURATIONS.items():
        axes.axhline(seconds, color=PALE, zorder=0)
        _annotate(axes, name, (times["tried"].min(), seconds), (0, 2), color=GREY, fontsize=9)
    axes.set(
        title=f"One core tries all IPv4 addresses in {duration(largest / rate)}",
        xlabel="values tried",
        ylabel="seconds of CPU",
        xlim=(times["tried"].min() / 2, largest * 20_000),  # leaves room for the labels
        xticks=[10**power for power in (4, 6, 8, 10)],
    )
    axes.minorticks_off()
    axes.legend(loc="lower right")
    plt.show()


def token_lengths(lengths: pd.DataFrame) -> None:
    """Draw ``exposure.lengths`` as steps, above the lengths of addresses and device ids."""
    _, (above, below) = plt.subplots(2, sharex=True, figsize=(8, 4.6), height_ratios=(4, 1.3))
    for part, label, look in (
        ("characters", "values padded to whole blocks (as stored)", {"color": BLUE, "lw": 2}),
        ("unpadded", "without padding", {"color": GREY, "ls": "--"}),
    ):
        above.step(lengths["value_bytes"], lengths[part], where="mid", label=label, **look)
    above.set(
        title="The length of a token shows the length of its value in steps of 16 bytes",
        ylabel="characters in the token",
        ylim=(0, None),
    )
    above.legend(loc="lower right")
    for name, (shortest, longest) in VALUE_BYTES.items():
        below.plot([shortest, longest], [name, name], "|-", color=ORANGE, lw=3, ms=9)
    below.margins(y=0.3)
    below.set(xlabel="bytes in the value", xticks=range(0, lengths["value_bytes"].max() + 2, 8))
    plt.show()


def _annotate(
    axes: Axes, text: str, point: tuple[float, float], offset_points: tuple[int, int], **look: Any
) -> None:
    axes.annotate(text, point, offset_points, textcoords="offset points", **look)


def _share_of_right(guesses: pd.DataFrame) -> str:
    return f"{100 * guesses.loc[guesses['right'], 'share'].sum():.3g}%"


def _plain_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")


def duration(seconds: float) -> str:
    """Write seconds in the largest unit that they fill at least twice: 42 seconds, 36 minutes."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


# 04_quality


def quarantined_share(runs: pd.DataFrame) -> None:
    """Draw the quarantined share of each of ``quality.runs``, and the median."""
    runs = runs.dropna(subset=["quarantined_share"])
    if _is_empty(runs):
        return
    usual = runs["quarantined_share"].median()
    worst = runs.loc[runs["quarantined_share"].idxmax()]
    _, axes = plt.subplots()
    bars = axes.bar(runs["run"], runs["quarantined_share"], color=BLUE)
    axes.axhline(usual, color=ORANGE, ls="--", label=f"median, {usual:.1%}")
    numbers = axes.bar_label(bars, [f"{number:,}" for number in runs["quarantined"]], padding=3)
    plt.setp(numbers, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.set(
        title=f"Run {worst['run']} quarantined the largest share: "
        f"{worst['quarantined_share']:.1%} of its messages",
        xlabel="run, the oldest first (above the bars: quarantined messages)",
        ylabel="quarantined share",
        xticks=runs["run"],
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()
    plt.show()


def checks_that_fail_most(checks: pd.DataFrame, max_checks: int = 12) -> None:
    """Draw the first rows of ``quality.checks`` as bars."""
    if _is_empty(checks):
        return
    head = checks.head(max_checks).iloc[::-1]
    _, axes = plt.subplots(figsize=(8, 1.3 + 0.27 * len(head)))
    bars = axes.barh(_names(head), head["messages"], color=BLUE)
    labels = [f"{row.messages:,} in {count(row.runs, 'run')}" for row in head.itertuples()]
    axes.bar_label(bars, labels, padding=4)
    axes.set(
        title=f"{count(checks['messages'].sum(), 'fault')} of {count(len(checks), 'kind')}; the "
        f"most frequent is {checks['messages'].max() / checks['messages'].sum():.0%} of them",
        xlabel="messages",
        ylabel="column: check",
        xlim=(0, head["messages"].max() * 1.25),
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    plt.show()


def checks_by_run(by_run: pd.DataFrame) -> None:
    """Draw ``quality.checks_by_run`` as a grid of counts; a darker cell is a larger share."""
    if _is_empty(by_run):
        return
    named = by_run.assign(name=_names(by_run))
    shares = named.pivot_table(index="name", columns="run", values="share", dropna=False)
    messages = named.pivot_table(index="name", columns="run", values="messages", aggfunc="sum")
    order = messages.sum(axis=1).sort_values(ascending=False, kind="stable").index
    shares, messages = shares.loc[order], messages.loc[order]
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.27 * len(order)))
    # The square root makes 0.2% and 20% both readable in one plot.
    image = axes.imshow(shares, cmap="Blues", aspect="auto", norm=PowerNorm(0.5, vmin=0))
    dark = shares > shares.max().max() / 3
    for (row, column), number in zip(
        np.ndindex(messages.shape), messages.to_numpy().flat, strict=True
    ):
        colour = "white" if dark.iat[row, column] else "black"
        axes.text(
            column,
            row,
            f"{number:,}" if number else "·",
            ha="center",
            va="center",
            color=colour,
            fontsize=9,
        )
    axes.set(
        title="Messages that failed each check, by run",
        xlabel="run, the oldest first",
        xticks=range(len(messages.columns)),
        xticklabels=messages.columns,
        yticks=range(len(order)),
        yticklabels=order,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, label="share of the run's messages", format=PercentFormatter(1))
    plt.show()


def check_trends(by_run: pd.DataFrame, surges: pd.DataFrame) -> None:
    """Draw the share of each check over the runs; only checks that surged are coloured."""
    if _is_empty(by_run):
        return
    _, axes = plt.subplots(figsize=(8, 4.2))
    named = by_run.assign(name=_names(by_run))
    surged = list(dict.fromkeys(_names(surges)))
    looks = dict(zip(surged, itertools.cycle(LOOKS), strict=False))
    for name, part in named.groupby("name", sort=False):
        if name not in looks:
            axes.plot(part["run"], part["share"], color=FAINT, lw=1, zorder=0)
    for name, (colour, marker) in looks.items():
        part = named[named["name"] == name]
        axes.plot(part["run"], part["share"], color=colour, marker=marker, label=name)
    axes.plot([], [], color=FAINT, label="every other check")
    axes.set(
        title=f"{count(len(surged), 'check')} rose far above the usual share",
        xlabel="run, the oldest first",
        ylabel="share of the run's messages",
        xticks=named["run"].unique(),
        ylim=(0, None),
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()
    plt.show()


def run_speed(runs: pd.DataFrame) -> None:
    """Draw how many messages each of ``quality.runs`` received, and how long it took."""
    if _is_empty(runs):
        return
    _, panels = plt.subplots(2, sharex=True, figsize=(8, 4.6))
    for axes, part, label, colour in (
        (panels[0], "received", "deliveries received", BLUE),
        (panels[1], "seconds", "seconds, start to end", GREY),
    ):
        bars = axes.bar(runs["run"], runs[part], color=colour)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.set(ylabel=label)
        axes.margins(y=0.2)
        axes.yaxis.set_major_formatter("{x:,g}")
    deliveries = count(runs["received"].sum(), "delivery", "deliveries")
    panels[0].set(title=f"{deliveries} in {count(len(runs), 'run')}")
    panels[1].set(xlabel="run, the oldest first", xticks=runs["run"])
    plt.show()


def _names(checks: pd.DataFrame) -> pd.Series:
    return checks["column"] + ": " + checks["check"]
