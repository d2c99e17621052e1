"""``RESULTS.md``, written from ``results.json`` and the remarks in ``NOTES.md``."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import (
    columns,
    drain,
    drain_15ms,
    drain_tls,
    duplicates,
    load,
    mask,
    memory,
    night,
    plots,
    profiling,
    rekey,
    release,
    results,
    start,
)

FILE = "RESULTS.md"
NOTES = Path(__file__).parent / "NOTES.md"

# In the order of the report.
PARTS: dict[str, ModuleType] = {
    "drain": drain,
    "drain_tls": drain_tls,
    "drain_15ms": drain_15ms,
    "release": release,
    "mask": mask,
    "columns": columns,
    "load": load,
    "rekey": rekey,
    "memory": memory,
    "start": start,
    "profile": profiling,
    "duplicates": duplicates,
}


def write(folder: Path) -> None:
    """Write the report and its charts for the results in the folder."""
    measured = results.read(folder)
    plots.draw(measured, folder)
    (folder / FILE).write_text(text(measured), encoding="utf-8")


HEAD = """\
## How it was measured

`python -m bench` wrote this page from `results.json`; the remarks are from `NOTES.md`. Within each
part the programs took turns (A B C A B C ...) on one machine, and each ratio is computed within one
turn. **Bold** is the median, and the lowest and highest values follow in brackets.
"""


def text(measured: dict[str, Any]) -> str:
    """Return the report."""
    notes = _notes()
    lines = ["# Results", "", *night.lines(measured)]
    lines += [HEAD, *_facts(measured), "", *notes.get("all", [])]
    for name, module in PARTS.items():
        if name in measured["parts"]:
            part = measured["parts"][name]
            subject = (module.__doc__ or "").partition("\n")[0]
            lines += [f"## {name}", "", subject, "", _origin(part, measured), ""]
            lines += [*module.show(part), "", *notes.get(name, [])]
    while lines[-1] == "":
        lines.pop()
    return "\n".join(lines) + "\n"


def _facts(measured: dict[str, Any]) -> list[str]:
    machine = measured["machine"]
    versions = measured["versions"]
    return [
        (
            f"* machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
            f"{machine['kernel']}"
        ),
        f"* versions: {', '.join(f'{name} {version}' for name, version in versions.items())}",
        "* to measure again: `make bench`, or for one part `python -m bench drain`",
    ]


def _origin(part: dict[str, Any], measured: dict[str, Any]) -> str:
    """Return when, how and on which commit a part was measured."""
    facts = part["measured"]
    text = f"Measured on {facts['date']} by `{facts['command']}`, commit {facts['versions']['etl']}"
    if facts["machine"] != measured["machine"]:
        text += f", on another machine: {facts['machine']}"
    return text + "."


def _notes() -> dict[str, list[str]]:
    """Return the remarks by part: the text below each heading of NOTES.md."""
    if not NOTES.exists():
        return {}
    pieces = re.split(r"^## (\w+)\n", NOTES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        name: [*text.strip().splitlines(), ""]
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True)
        if text.strip()
    }
