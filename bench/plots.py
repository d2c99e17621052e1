"""The charts in RESULTS.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import drain, drain_15ms, load

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Two of Okabe and Ito's colours, which colour-blind people can tell apart.
OURS = "#0072B2"
OTHERS = "#E69F00"


def draw(results: dict[str, Any], folder: Path) -> None:
    """Draw a chart for each measured part that has one, and save it in the folder."""
    parts = results["parts"]
    if "drain" in parts:
        _drain(parts["drain"], parts.get("drain_tls"), folder / "drain.png")
    if "drain_15ms" in parts:
        _drain_15ms(parts["drain_15ms"], folder / "drain_15ms.png")
    if "load" in parts:
        _load(parts["load"], folder / "load.png")


def _drain(part: dict[str, Any], over_tls: dict[str, Any] | None, path: Path) -> None:
    spreads = {name: row["cpu_us"] for name, row in part["table"].items()}
    if over_tls is not None:
        spreads |= {f"{name}, TLS": row["cpu_us"] for name, row in over_tls["table"].items()}
    colours = [OURS if name.startswith("etl") else OTHERS for name in spreads]
    bare = spreads[drain.BARE]["median"]
    _bars(
        spreads,
        colours,
        path,
        title="CPU to drain a message (blue: this job)",
        unit="CPU of the client, µs per message (bar: median; line: lowest to highest)",
        marker=(bare, "the bare loop, plain HTTP"),
    )


def _drain_15ms(part: dict[str, Any], path: Path) -> None:
    spreads = {name: row["wall_seconds"] for name, row in part["table"].items()}
    for name, seconds in drain_15ms.PEERS.items():
        spreads[f"{name}, by hand"] = {"median": seconds, "least": seconds, "most": seconds}
    colours = [OURS if name.startswith("etl") else OTHERS for name in spreads]
    _bars(
        spreads,
        colours,
        path,
        title=f"{part['messages']:,} messages, SQS answers after 15 ms (blue: this job)",
        unit="wall time of the whole run, s (bar: median; line: lowest to highest)",
        digits=1,
    )


def _load(part: dict[str, Any], path: Path) -> None:
    spreads = {name: row["rows_per_second"] for name, row in part["table"].items()}
    full = part["ledgers"][0]["table"][load.FULL]
    spreads[f"{load.COPY}, {part['ledger_rows']:,} ids in the ledger"] = full["rows_per_second"]
    colours = [OURS if name.startswith("load stage") else OTHERS for name in spreads]
    _bars(
        spreads,
        colours,
        path,
        title="Rows loaded per second (blue: this job, with its ledger)",
        unit="rows per second (bar: median; line: lowest to highest)",
    )


def _bars(
    spreads: dict[str, dict[str, float]],
    colours: list[str],
    path: Path,
    *,
    title: str,
    unit: str,
    marker: tuple[float, str] | None = None,
    digits: int = 0,
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.9 + 0.55 * len(spreads)), dpi=120, layout="constrained")
    axes = figure.subplots()
    _add_bars(axes, spreads, colours, digits)
    if marker is not None:
        value, label = marker
        axes.axvline(value, color="black", linestyle="--", linewidth=1, label=label)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    _style(axes, highest=max(row["most"] for row in spreads.values()))
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left")
    figure.savefig(path)


def _add_bars(
    axes: Axes, spreads: dict[str, dict[str, float]], colours: list[str], digits: int
) -> None:
    rows = list(spreads.values())
    medians = [row["median"] for row in rows]
    ranges = [
        [row["median"] - row["least"] for row in rows],
        [row["most"] - row["median"] for row in rows],
    ]
    axes.barh(list(spreads), medians, color=colours, height=0.6)
    axes.errorbar(medians, list(spreads), xerr=ranges, fmt="none", ecolor="black", capsize=3)
    for row, name in zip(rows, spreads, strict=True):
        axes.annotate(
            f"{row['median']:,.{digits}f}",
            (row["most"], name),
            (6, 0),
            textcoords="offset points",
            va="center",
        )


def _style(axes: Axes, highest: float) -> None:
    from matplotlib.ticker import StrMethodFormatter

    axes.invert_yaxis()
    axes.set_xlim(0, highest * 1.15)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.spines[["top", "right"]].set_visible(False)
