"""Small charts, drawn here so that a report needs no plotting library.

This module works out where everything goes; ``templates/chart.svg`` writes it as SVG. Series differ
by shape, and by the colours of Okabe and Ito, which people with any kind of colour vision can tell
apart. The colours are in ``templates/report.css``, for light and for dark.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

# All lengths are in pixels.
WIDTH = 640
HEIGHT = 300
MARGIN_LEFT = 76
MARGIN_RIGHT = 20
MARGIN_TOP = 30
MARGIN_BOTTOM = 50
ROW = 24  # height of a row of a ranking
MAX_TICKS = 6
MAX_DATES = 5
# The corners of a mark around its centre, by series; without corners it is a circle.
SHAPES = (
    (),
    ((-4, -4), (4, -4), (4, 4), (-4, 4)),
    ((0, -5.5), (5, 4), (-5, 4)),
    ((0, -6), (6, 0), (0, 6), (-6, 0)),
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A straight line; its style is ``axis`` or ``grid``."""

    style: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Label:
    """A text; its anchor says whether it starts, ends or has its middle at ``x``."""

    x: float
    y: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Bar:
    """A bar with a tooltip."""

    x: float
    y: float
    width: float
    height: float
    tooltip: str


@dataclass(frozen=True)
class Mark:
    """A point of a series with a tooltip, drawn as a polygon, or as a circle without corners."""

    series: int
    x: float
    y: float
    corners: str
    tooltip: str


@dataclass(frozen=True)
class Chart:
    """The parts of a chart, in the order in which ``templates/chart.svg`` draws them."""

    title: str
    lines: Sequence[Line]
    labels: Sequence[Label]
    bars: Sequence[Bar] = ()
    marks: Sequence[Mark] = ()
    height: int = HEIGHT
    width: int = field(default=WIDTH, init=False)


@dataclass(frozen=True)
class Scale:
    """Places numbers along an axis."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel at which a value is drawn."""
        share = (self._position(value) - self._position(self.low)) / (
            self._position(self.high) - self._position(self.low)
        )
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers from the low end to the high one."""
        if self.log:
            powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            return [10.0**power for power in powers]
        step = _round_step((self.high - self.low) / MAX_TICKS)
        return [self.low + step * i for i in range(int((self.high - self.low) / step) + 1)]

    def _position(self, value: float) -> float:
        return math.log10(value) if self.log else value


def log_scale(largest: float, start: float, stop: float) -> Scale:
    """A scale from 1 to the first power of ten that is not below *largest*."""
    powers = max(math.ceil(math.log10(max(largest, 1))), 1)
    return Scale(1, 10.0**powers, start, stop, log=True)


def dots(series: Mapping[str, Sequence[Point]], x_label: str, y_label: str, title: str) -> Chart:
    """Draw points on two logarithmic axes; each series has a shape and a colour.

    :param series: points by the name of their series; both coordinates are at least 1
    """
    points = [point for of_series in series.values() for point in of_series]
    x = log_scale(max((point[0] for point in points), default=1), MARGIN_LEFT, WIDTH - MARGIN_RIGHT)
    y = log_scale(
        max((point[1] for point in points), default=1), HEIGHT - MARGIN_BOTTOM, MARGIN_TOP
    )
    marks = [
        _mark(i, x.at(a), y.at(b), f"{name}: {a:,.0f} {x_label}, {b:,.0f} {y_label}")
        for i, (name, of_series) in enumerate(series.items())
        for a, b in of_series
    ]
    x_ticks = [(x.at(tick), f"{tick:,.0f}") for tick in x.ticks()]
    legend_marks, legend_labels = _legend(series)
    return Chart(
        title,
        lines=_horizontal_lines(y),
        labels=[*_labels(x_ticks, y, x_label, y_label), *legend_labels],
        marks=[*marks, *legend_marks],
    )


def days(values: Mapping[dt.date, int], y_label: str, title: str) -> Chart:
    """Draw a bar for each day, on an axis from the first day to the last."""
    first = min(values)
    x = Scale(0, (max(values) - first).days + 1, MARGIN_LEFT, WIDTH - MARGIN_RIGHT)
    y = Scale(0, max(*values.values(), 1), HEIGHT - MARGIN_BOTTOM, MARGIN_TOP)
    width = round(max(x.at(1) - x.at(0) - 1, 1), 1)
    bars = [
        Bar(
            x=x.at((day - first).days),
            y=y.at(value),
            width=width,
            height=round(y.start - y.at(value), 1),
            tooltip=f"{day}: {value:,} {y_label}",
        )
        for day, value in sorted(values.items())
    ]
    labelled = range(0, int(x.high), math.ceil(x.high / MAX_DATES))
    x_ticks = [(x.at(i + 0.5), str(first + dt.timedelta(days=i))) for i in labelled]
    return Chart(
        title,
        lines=_horizontal_lines(y),
        labels=_labels(x_ticks, y, "day (UTC)", y_label),
        bars=bars,
    )


def ranking(values: Mapping[str, int], x_label: str, title: str) -> Chart:
    """Draw a row for each name, with a dot on a logarithmic axis and the number; keep the order."""
    height = MARGIN_TOP + ROW * len(values) + MARGIN_BOTTOM
    bottom = height - MARGIN_BOTTOM
    x = log_scale(max(values.values(), default=1), MARGIN_LEFT, WIDTH - MARGIN_RIGHT - 40)
    lines = [Line("axis", MARGIN_LEFT, bottom, x.stop, bottom)]
    labels = [_label(x.at(tick), bottom + 18, f"{tick:,.0f}", "middle") for tick in x.ticks()]
    labels.append(_label((MARGIN_LEFT + x.stop) / 2, height - 10, x_label, "middle"))
    marks = []
    for i, (name, value) in enumerate(values.items()):
        middle = MARGIN_TOP + ROW * (i + 0.5)
        lines.append(Line("grid", MARGIN_LEFT, middle, x.at(value), middle))
        marks.append(_mark(0, x.at(value), middle, f"{name}: {value:,} {x_label}"))
        labels.append(_label(MARGIN_LEFT - 8, middle + 4, name, "end"))
        labels.append(_label(x.at(value) + 10, middle + 4, f"{value:,}", "start"))
    return Chart(title, lines, labels, marks=marks, height=height)


def _horizontal_lines(y: Scale) -> list[Line]:
    levels = [y.at(tick) for tick in y.ticks()]
    return [
        Line(
            "axis" if level == y.start else "grid", MARGIN_LEFT, level, WIDTH - MARGIN_RIGHT, level
        )
        for level in levels
    ]


def _labels(
    x_ticks: Iterable[tuple[float, str]], y: Scale, x_label: str, y_label: str
) -> list[Label]:
    return [
        *(_label(MARGIN_LEFT - 8, y.at(tick) + 4, f"{tick:,.0f}", "end") for tick in y.ticks()),
        *(_label(x, HEIGHT - MARGIN_BOTTOM + 18, text, "middle") for x, text in x_ticks),
        _label((MARGIN_LEFT + WIDTH - MARGIN_RIGHT) / 2, HEIGHT - 10, x_label, "middle"),
        _label(MARGIN_LEFT - 60, MARGIN_TOP - 14, y_label, "start"),
    ]


def _legend(names: Iterable[str]) -> tuple[list[Mark], list[Label]]:
    marks, labels = [], []
    for i, name in enumerate(names):
        level = MARGIN_TOP + 8 + 18 * i
        marks.append(_mark(i, WIDTH - MARGIN_RIGHT - 12, level, name))
        labels.append(_label(WIDTH - MARGIN_RIGHT - 24, level + 4, name, "end"))
    return marks, labels


def _mark(series: int, x: float, y: float, tooltip: str) -> Mark:
    look = series % len(SHAPES)
    corners = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in SHAPES[look])
    return Mark(look, x, y, corners, tooltip)


def _label(x: float, y: float, text: str, anchor: str) -> Label:
    return Label(round(x, 1), round(y, 1), text, anchor)


def _round_step(smallest: float) -> float:
    """The first of 1, 2, 5, 10, 20 and so on that is not below *smallest*; counts are whole."""
    power = 10.0 ** math.floor(math.log10(max(smallest, 1)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= smallest)
