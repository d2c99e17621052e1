"""``RESULTS.md``, made from ``results.json`` and the notes in ``NOTES.md``."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import drain, duplicates, load, mask, memory, plots, profiling, rekey, results, start

FILE = "RESULTS.md"
NOTES = Path(__file__).parent / "NOTES.md"

# In the order of the report.
PARTS: dict[str, ModuleType] = {
    "drain": drain,
    "mask": mask,
    "load": load,
    "rekey": rekey,
    "memory": memory,
    "start": start,
    "profile": profiling,
    "duplicates": duplicates,
}


def write(folder: Path) -> None:
    """Write the report and its pictures for the results in the folder."""
    made = results.read(folder)
    plots.draw(made, folder)
    (folder / FILE).write_text("\n".join(_lines(made)) + "\n", encoding="utf-8")


HEAD = """\
# Results

Made by `python -m bench` from `results.json`; the remarks stand in `NOTES.md`. Within a part the
candidates took turns (A B C A B C ...) on one machine, and a ratio is formed within each turn.
**Bold** is the median, in brackets stand least and most.
"""


def _lines(made: dict[str, Any]) -> list[str]:
    notes = _notes()
    lines = [HEAD, *_facts(made), "", *notes.get("all", [])]
    for name, module in PARTS.items():
        if name in made["parts"]:
            part = made["parts"][name]
            lines += [f"## {name}", "", module.__doc__ or "", "", _measured(part, made), ""]
            lines += [*module.show(part), "", *notes.get(name, [])]
    while lines[-1] == "":
        lines.pop()
    return lines


def _facts(made: dict[str, Any]) -> list[str]:
    machine, versions = made["machine"], made["versions"]
    return [
        (
            f"* machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
            f"{machine['kernel']}"
        ),
        f"* versions: {', '.join(f'{name} {version}' for name, version in versions.items())}",
        "* to repeat: `make bench`, or one part: `python -m bench drain`",
    ]


def _measured(part: dict[str, Any], made: dict[str, Any]) -> str:
    measured = part["measured"]
    commit = measured["versions"]["etl"]
    text = f"Measured on {measured['date']} by `{measured['command']}`, etl {commit}"
    if measured["machine"] != made["machine"]:
        text += f", on another machine: {measured['machine']}"
    return text + "."


def _notes() -> dict[str, list[str]]:
    """The remarks by part: the text below each heading of NOTES.md."""
    if not NOTES.exists():
        return {}
    pieces = re.split(r"^## (\w+)\n", NOTES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        name: [*text.strip().splitlines(), ""]
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True)
        if text.strip()
    }
