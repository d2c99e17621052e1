"""``results.json``: the ratios by key, and then the measurements that they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "results.json"
FACTS = ("date", "command", "machine", "versions")
KEYS = (
    "drain.copy_over_bare",
    "drain.multi_over_bare",
    "drain.copy_over_usual",
    "drain.two_workers_over_one",
    "drain.copy_cpu_us",
    "drain_tls.copy_over_bare",
    "drain_15ms.wall_seconds",
    "drain_15ms.wall_over_best_peer",
    "release.messages_per_second",
    "mask.values_per_second",
    "mask.over_best_library",
    "columns.default_cpu_us",
    "load.copy_over_psql",
    "load.full_ledger_over_empty",
    "load.full_ledger_over_empty_in_memory",
    "rekey.over_update",
    "memory.big_over_small",
    "memory.peak_mb",
    "start.help_over_imports",
    "start.empty_run_cpu",
    "start.second_worker_cpu_seconds",
    "start.second_worker_mib",
    "start.first_row_seconds",
    "start.fifty_over_idle_seconds",
    "duplicates.report_over_plain",
    "duplicates.million_seconds",
    "duplicates.peak_mb",
    "duplicates.indexed_load_over_bare",
)


def read(folder: Path) -> dict[str, Any]:
    """Return the results in the folder, or none."""
    path = folder / FILE
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return results


def add(folder: Path, name: str, part: dict[str, Any], facts: dict[str, Any]) -> None:
    """Replace the results of one part; the other parts stay as they are."""
    results = read(folder)
    parts = results.get("parts", {})
    if "labels" in part:
        # Profiles with other labels stay.
        part["labels"] = {**parts.get(name, {}).get("labels", {}), **part["labels"]}
    parts[name] = {"measured": facts, **part}
    medians = {
        key: spread["median"]
        for measured in parts.values()
        for key, spread in measured["ratios"].items()
    }
    document = {
        **{key: medians.get(key) for key in KEYS},
        **{fact: facts[fact] for fact in FACTS},
        "parts": parts,
    }
    (folder / FILE).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
