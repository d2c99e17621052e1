"""Write the parts of the documents that are made from code or results: ``make docs``."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench import night
from docs import costs as prices
from etl.config import Settings
from etl.monitoring.metrics import METRICS
from etl.postgres import session
from tests.integration.test_session import LEFT
from tests.unit.test_structure import LAYERS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = DOCS / "reliability-results.jsonl"
BITES = ROOT / "tests/chaos/mutants.json"
BENCHMARKS = ROOT / "bench/results.json"

# Faults whose name in the results would be mistaken for a column of the table.
FAULTS = {"lost": "lost request"}

# The address comes from DATABASE_URL only; the columns have a table of their own.
NOT_IN_THE_TABLE = {("database", "url"), ("table", "columns")}


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Make a Markdown table."""
    heads = tuple(heads)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def put(text: str, name: str, part: str) -> str:
    """Put a part between its two markers.

    :raises ValueError: the markers are not there
    """
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
    filled, count = re.subn(pattern, lambda m: f"{m[1]}{part}\n{m[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{count} places for the part {name!r}, not one")
    return filled


def settings() -> str:
    """Make a table of settings for each section."""
    schema = Settings.model_json_schema()
    parts = []
    for section, property_ in schema["properties"].items():
        choices = property_.get("anyOf", [property_])
        model = schema["$defs"][choices[0]["$ref"].rpartition("/")[2]]
        rows = [
            (
                f"`{section}.{key}`",
                f"`ETL_{section}__{key}`".upper(),
                allowed_values(facts),
                default_value(facts),
                facts["description"],
            )
            for key, facts in model["properties"].items()
            if (section, key) not in NOT_IN_THE_TABLE
        ]
        heads = ("setting", "variable", "allowed", "default", "meaning")
        parts += [f"### {section}", model["description"], table(heads, rows)]
    return "\n\n".join(parts)


def columns() -> str:
    """Make the table of what can be said about a column of the table."""
    model = Settings.model_json_schema()["$defs"]["Column"]
    rows = [
        (f"`{key}`", allowed_values(facts), default_value(facts), facts["description"])
        for key, facts in model["properties"].items()
    ]
    return table(("key", "allowed", "default", "meaning"), rows)


def allowed_values(facts: dict[str, Any]) -> str:
    """Say which values a setting can have; empty for a text."""
    return ", ".join(filter(None, map(_allowed, facts.get("anyOf", [facts]))))


def _allowed(choice: dict[str, Any]) -> str:
    if "enum" in choice:
        return ", ".join(f"`{value}`" for value in choice["enum"])
    if choice.get("type") == "boolean":
        return "`true`, `false`"
    low, high = choice.get("minimum"), choice.get("maximum")
    if low is not None:
        return f"{low:,} to {high:,}" if high is not None else f"{low:,} or more"
    if "exclusiveMinimum" in choice:
        return f"above {choice['exclusiveMinimum']:,}"
    return f"`{choice['const']}`" if "const" in choice else ""


def default_value(facts: dict[str, Any]) -> str:
    """Show a setting's default as YAML writes it; empty where there is none.

    A number whose default is null is a limit that is not set.
    """
    default = facts.get("default")
    if default is None:
        types = {choice.get("type") for choice in facts.get("anyOf", ())}
        return "no limit" if types & {"integer", "number"} else ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def packages() -> str:
    """Make the table of the packages: what belongs in each, and its modules."""
    rows = []
    for init in sorted((ROOT / "etl").glob("*/__init__.py")):
        modules = sorted(path.stem for path in init.parent.glob("*.py") if path != init)
        rows.append(
            (
                f"`etl/{init.parent.name}/`",
                summary(init),
                ", ".join(f"`{module}`" for module in modules),
            )
        )
    return table(("package", "what belongs in it", "modules"), rows)


def summary(module: Path) -> str:
    """Read the first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    return docstring.partition("\n")[0].replace("``", "`")


def layers() -> str:
    """List the layers of the package, as the test of the structure holds them."""
    return "\n".join(
        f"{number}. {' '.join(f'`{name}`' for name in names.split())}"
        for number, names in enumerate(LAYERS, start=1)
    )


def metrics() -> str:
    """Make the table of the metrics."""
    rows = [
        (
            f"`{metric.name}`",
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.unit,
            metric.help,
        )
        for metric in METRICS
    ]
    return table(("metric", "labels", "unit", "meaning"), rows)


def decisions() -> str:
    """List the decision records by the titles that they have."""
    records = sorted((DOCS / "decisions").glob("0*.md"))
    titles = [(path.name, path.read_text().partition("\n")[0]) for path in records]
    return "\n".join(
        f"{number}. [{title}]({name})"
        for name, heading in titles
        for number, _, title in [heading.removeprefix("# ").partition(". ")]
    )


def session_settings() -> str:
    """Make the table of the settings that a session inherits, and what is done about each."""
    commit = "a COMMIT would be answered before it is on disk, or on the standbys' disks"
    path = "tables, functions and operators of the same names would be used instead"
    rows = [
        ("`synchronous_commit`", commit, "`on`; an inherited `remote_apply` stays"),
        ("`search_path`", path, "the inherited one; temporary tables and `pg_catalog` come first"),
    ]
    for setting in (*session.SETTINGS, *session.TIME_LIMITS):
        value = f"`{setting.value}`" if setting.value else "empty"
        if setting in session.TIME_LIMITS and setting.name in session.OF_A_BATCH:
            value += ", and for a batch a little more than `database.answer_seconds`"
        rows.append((f"`{setting.name}`", setting.reason, value))
    triggers = "triggers and foreign keys would be skipped"
    rows.append(("`session_replication_role`", triggers, "refused, unless it is `origin`"))
    rows += [
        (", ".join(f"`{name}`" for name in sorted(names.split())), reason, "left as it is")
        for reason, names in LEFT.items()
    ]
    return table(("setting", "what another value could change", "in our transactions"), rows)


def results() -> str:
    """Make the table of the campaigns' last results, from their JSON lines."""
    lines = RESULTS.read_text().splitlines()
    last = {result["campaign"]: result for result in map(json.loads, lines)}
    counted = ("lost", "duplicated", "wrong", "leaked", "dead")
    rows = [
        (
            name,
            f"{result['seed']}",
            f"{result['share']:g}",
            f"{result['sent']:,}",
            ", ".join(f"{FAULTS.get(kind, kind)} {n:,}" for kind, n in result["faults"].items()),
            # Dead letters have been counted since there is the campaign that is about them.
            *(f"{result.get(key, '')}" for key in (*counted, "verdict")),
            f"{result['seconds']:,}",
            f"{result['peak_mb']}",
        )
        for name, result in sorted(last.items())
    ]
    heads = ("campaign", "seed", "share", "sent", "faults that fired", *counted)
    return table((*heads, "verdict", "s", "MiB"), rows)


def bites() -> str:
    """Make the table of the planted bugs from the JSON that their command wrote."""
    rows = [
        (
            bug["bug"],
            ", ".join(f"`{test.partition('::')[2] or test}`" for test in bug["tests"]),
            bug["verdict"],
        )
        for bug in json.loads(BITES.read_text())["bites"]
    ]
    return table(("the program ...", "noticed by", "verdict"), rows)


def night_cost() -> str:
    """Say what a night costs, from the last results of the benchmarks."""
    sentence = night.sentence(json.loads(BENCHMARKS.read_text()))
    return textwrap.fill(sentence, 115, break_long_words=False, break_on_hyphens=False)


def costs() -> str:
    """Make a table of what the template costs a month."""
    measured = json.loads(BENCHMARKS.read_text())
    rows = [*prices.rows(ROOT / "deploy/etl.yaml", measured)]
    cells = [(what, how, f"{dollars:,.2f}") for what, how, dollars in rows]
    total = ("**in all**", "", f"**{sum(dollars for *_, dollars in rows):,.0f}**")
    room = (
        f"A message takes {prices.ROW_BYTES} bytes in the table and {prices.LEDGER_BYTES} in the "
        f"ledger, so 100 GB have room for {prices.storage_days(100)} days."
    )
    parts = table(("what", "how much", "US dollars a month"), [*cells, total])
    return f"{parts}\n\n{textwrap.fill(room, 115)}"


# The pages with parts that are made here, and what makes each part.
PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {"night": night_cost},
    DOCS / "architecture.md": {"packages": packages, "layers": layers},
    DOCS / "decisions/README.md": {"decisions": decisions},
    DOCS / "production.md": {"costs": costs},
    DOCS / "metrics.md": {"metrics": metrics},
    DOCS / "reliability.md": {"session": session_settings, "results": results, "bites": bites},
    DOCS / "settings.md": {"settings": settings, "columns": columns},
}


def page(path: Path) -> str:
    """Read a page and put its parts in anew."""
    text = path.read_text()
    for name, make in PAGES[path].items():
        text = put(text, name, make())
    return text


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path))
