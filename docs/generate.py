"""Write the parts of README.md and of pages that are made from code or results: ``make docs``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from etl.config import Settings

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
RELIABILITY, RESULTS = DOCS / "reliability.md", DOCS / "reliability-results.jsonl"
BITES = DOCS.parent / "tests/chaos/mutants.json"


def settings_table() -> str:
    """Make the table of all settings: key, variable, default, meaning."""
    lines = ["| setting | variable | default | meaning |", "|---|---|---|---|"]
    for section, field in Settings.model_fields.items():
        model = field.annotation
        for name, key in model.model_fields.items():  # type: ignore[union-attr]
            if (section, name) in {("database", "url"), ("table", "columns")}:
                continue
            name = key.alias or name  # noqa: PLW2901
            default = "" if key.default in (None, PydanticUndefined) else f"`{key.default}`"
            variable = f"`ETL_{section}__{name}`".upper()
            lines.append(f"| `{section}.{name}` | {variable} | {default} | {key.description} |")
    return "\n".join(lines)


def put(text: str, name: str, part: str) -> str:
    """Put a part between its two markers."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
    return re.sub(pattern, lambda m: f"{m[1]}{part}\n{m[2]}", text, flags=re.DOTALL)


def results_table(lines: str) -> str:
    """Make the table of the campaigns' last results, from their JSON lines."""
    last = {result["campaign"]: result for result in map(json.loads, lines.splitlines())}
    heads = (
        "campaign", "seed", "share", "sent", "faults that fired",
        "lost", "duplicated", "wrong", "leaked", "verdict", "s", "MiB",
    )  # fmt: skip
    table = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, result in sorted(last.items()):
        faults = ", ".join(f"{kind} {count:,}" for kind, count in result["faults"].items())
        found = " | ".join(f"{result[key]}" for key in ("lost", "duplicated", "wrong", "leaked"))
        table.append(
            f"| {name} | {result['seed']} | {result['share']:g} | {result['sent']:,} | {faults} "
            f"| {found} | {result['verdict']} | {result['seconds']:,} | {result['peak_mb']} |"
        )
    return "\n".join(table)


def bites_table(text: str) -> str:
    """Make the table of the planted bugs from the JSON that their command wrote."""
    table = ["| the program ... | noticed by | verdict |", "|---|---|---|"]
    for one in json.loads(text)["bites"]:
        tests = ", ".join(f"`{test.partition('::')[2] or test}`" for test in one["tests"])
        table.append(f"| {one['bug']} | {tests} | {one['verdict']} |")
    return "\n".join(table)


def reliability(page: str) -> str:
    """Put the last results into the page."""
    page = put(page, "results", results_table(RESULTS.read_text()))
    return put(page, "bites", bites_table(BITES.read_text()))


if __name__ == "__main__":
    RELIABILITY.write_text(reliability(RELIABILITY.read_text()))
    README.write_text(put(README.read_text(), "settings", settings_table()))
