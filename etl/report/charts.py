"""Small charts as SVG, drawn here so that a report needs no plotting library.

Series differ by shape and by Okabe and Ito's colours, which all kinds of colour vision tell apart;
the colours themselves stand in ``report/templates/report.css``, for light and for dark.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from etl.report.markup import node

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 30, 50
ROW = 24  # height of a row of a ranking
SHAPES = ("circle", "square", "triangle", "diamond")
MAX_TICKS, MAX_DATES = 6, 5

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Where on the paper a number stands."""

    low: float
    high: float
    start: float  # pixels
    stop: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, own = self.low, self.high, value
        if self.log:
            low, high, own = math.log10(low), math.log10(high), math.log10(value)
        return round(self.start + (own - low) / (high - low) * (self.stop - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers along it."""
        if self.log:
            powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            return [10.0**power for power in powers]
        step = _round_step((self.high - self.low) / MAX_TICKS)
        return [self.low + step * i for i in range(int((self.high - self.low) / step) + 1)]


def log_scale(most: float, start: float, stop: float) -> Scale:
    """From 1 to the power of ten above *most*."""
    return Scale(1, 10.0 ** max(math.ceil(math.log10(max(most, 1))), 1), start, stop, log=True)


def dots(series: Mapping[str, Sequence[Point]], x_label: str, y_label: str, title: str) -> Element:
    """Points from (1, 1) on, on two logarithmic axes; a shape and a colour for each series."""
    points = [point for own in series.values() for point in own]
    x = log_scale(max((p[0] for p in points), default=1), LEFT, WIDTH - RIGHT)
    y = log_scale(max((p[1] for p in points), default=1), HEIGHT - BOTTOM, TOP)
    marks = [
        node("g", {"class": f"s{i % 4}"}, *(_mark(i, x.at(a), y.at(b), f"{name}: {a:,.0f} {x_label}"
             f", {b:,.0f} {y_label}") for a, b in own))
        for i, (name, own) in enumerate(series.items())
    ]  # fmt: skip
    across = [(x.at(tick), f"{tick:,.0f}") for tick in x.ticks()]
    return _chart(title, HEIGHT, [*_frame(across, y, x_label, y_label), *marks, *_legend(series)])


def days(values: Mapping[dt.date, int], y_label: str, title: str) -> Element:
    """A bar a day, from the first to the last."""
    first, last = min(values), max(values)
    x = Scale(0, (last - first).days + 1, LEFT, WIDTH - RIGHT)
    y = Scale(0, max(*values.values(), 1), HEIGHT - BOTTOM, TOP)
    wide = max(x.at(1) - x.at(0) - 1, 1)
    bars = [
        node(
            "rect",
            {"x": x.at((day - first).days), "y": y.at(value), "width": round(wide, 1),
             "height": round(y.start - y.at(value), 1)},
            node("title", None, f"{day}: {value:,} {y_label}"),
        )
        for day, value in sorted(values.items())
    ]  # fmt: skip
    step = math.ceil(x.high / MAX_DATES)
    shown = range(0, int(x.high), step)
    across = [(x.at(i + 0.5), str(first + dt.timedelta(days=i))) for i in shown]
    return _chart(
        title, HEIGHT, [*_frame(across, y, "day (UTC)", y_label), node("g", {"class": "s0"}, *bars)]
    )


def ranking(values: Mapping[str, int], label: str, title: str) -> Element:
    """A dot for each name on one logarithmic axis, with its number; the order is kept."""
    height = TOP + ROW * len(values) + BOTTOM
    x = log_scale(max(values.values(), default=1), LEFT, WIDTH - RIGHT - 40)
    rows: list[Element] = []
    for i, (name, value) in enumerate(values.items()):
        middle = TOP + ROW * (i + 0.5)
        rows += [
            node("line", {"class": "grid", "x1": LEFT, "x2": x.at(value), "y1": middle,
                          "y2": middle}),
            _mark(0, x.at(value), middle, f"{name}: {value:,} {label}"),
            _text(LEFT - 8, middle + 4, name, "end"),
            _text(x.at(value) + 10, middle + 4, f"{value:,}", "start"),
        ]  # fmt: skip
    bottom = height - BOTTOM
    ticks = [_text(x.at(tick), bottom + 18, f"{tick:,.0f}", "middle") for tick in x.ticks()]
    base = node("line", {"class": "axis", "x1": LEFT, "x2": x.stop, "y1": bottom, "y2": bottom})
    below = _text((LEFT + x.stop) / 2, height - 10, label, "middle")
    return _chart(title, height, [base, *ticks, below, node("g", {"class": "s0"}, *rows)])


def _chart(title: str, height: float, parts: Sequence[Element]) -> Element:
    attributes = {
        "viewBox": f"0 0 {WIDTH} {height:g}",
        "role": "img",
        "aria-label": title,
        "xmlns": "http://www.w3.org/2000/svg",
    }
    return node("svg", attributes, *parts)


def _frame(
    across: Sequence[tuple[float, str]], y: Scale, x_label: str, y_label: str
) -> list[Element]:
    """Grid, ticks and labels."""
    parts = []
    for tick in y.ticks():
        level = y.at(tick)
        line = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": level, "y2": level}
        parts += [
            node("line", {"class": "axis" if level == y.start else "grid", **line}),
            _text(LEFT - 8, level + 4, f"{tick:,.0f}", "end"),
        ]
    parts += [_text(place, HEIGHT - BOTTOM + 18, word, "middle") for place, word in across]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, "middle"))
    parts.append(_text(LEFT - 60, TOP - 14, y_label, "start"))
    return parts


def _legend(names: Mapping[str, object]) -> list[Element]:
    parts = []
    for i, name in enumerate(names):
        level = TOP + 8 + 18 * i
        mark = node("g", {"class": f"s{i % 4}"}, _mark(i, WIDTH - RIGHT - 12, level, name))
        parts += [mark, _text(WIDTH - RIGHT - 24, level + 4, name, "end")]
    return parts


def _mark(series: int, x: float, y: float, told: str) -> Element:
    title = node("title", None, told)
    shape = SHAPES[series % len(SHAPES)]
    if shape == "circle":
        return node("circle", {"cx": x, "cy": y, "r": 4.5}, title)
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "triangle": ((0, -5.5), (5, 4), (-5, 4)),
        "diamond": ((0, -6), (6, 0), (0, 6), (-6, 0)),
    }[shape]
    points = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)
    return node("polygon", {"points": points}, title)


def _text(x: float, y: float, words: str, anchor: str) -> Element:
    return node("text", {"x": round(x, 1), "y": round(y, 1), "text-anchor": anchor}, words)


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, 20 and so on: counts are whole."""
    power = 10.0 ** math.floor(math.log10(max(least, 1)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)
