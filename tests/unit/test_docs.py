"""What README.md says is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from docs import generate
from etl.cli import EXIT_CODES, main
from etl.crypto.keyring import load_keyring
from tests.chaos.planted_bugs import BUGS
from tests.unit.builders import ROOT

README = (ROOT / "README.md").read_text()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_settings_table_is_made_from_the_code() -> None:
    """After a change, ``make docs`` writes it anew."""
    assert generate.put(README, "settings", generate.settings_table()) == README


def commands_of(page: Path) -> list[str]:
    """The calls of our commands in a text, or in a notebook."""
    return re.findall(r"python -m etl ([a-z][^\n`|)&#'\\]*)", page.read_text())


def test_the_readme_shows_commands() -> None:
    """The next test would pass over a page without any."""
    assert len(commands_of(ROOT / "README.md")) >= 6


def test_the_tables_of_reliability_are_made_from_the_results() -> None:
    """After a campaign or ``make bites``, ``make docs`` writes them anew."""
    page = generate.RELIABILITY.read_text()
    assert generate.reliability(page) == page


def test_every_known_bug_was_caught() -> None:
    """By the run whose table the page shows; a new bug wants a new run."""
    bites = json.loads(generate.BITES.read_text())["bites"]
    assert {one["bug"]: one["verdict"] for one in bites} == {bug.name: "caught" for bug in BUGS}


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_every_command_of_the_documents_exists(page: Path) -> None:
    """With its options."""
    for call in commands_of(page):
        command: click.Command = main
        for word in call.split():
            if isinstance(command, click.Group):
                assert word in command.commands, call
                command = command.commands[word]
            elif word.startswith("--"):
                assert word in {"--help", *(o for p in command.params for o in p.opts)}, call


def test_every_command_of_recovery_is_documented() -> None:
    """In docs/operations.md, with an example."""
    shown = {" ".join(call.split()[:2]) for call in commands_of(ROOT / "docs" / "operations.md")}
    quarantine = main.commands["quarantine"]
    assert isinstance(quarantine, click.Group)
    assert {f"quarantine {name}" for name in quarantine.commands} <= shown
    assert {"unmask", "audit", "forget", "init"} <= {call.split()[0] for call in shown}


def test_the_exit_codes_of_the_readme_are_those_of_the_help() -> None:
    """The same numbers in both."""
    table = set(re.findall(r"^\| (\d) \|", README, re.MULTILINE))
    assert table == set(re.findall(r"^  (\d)  ", EXIT_CODES, re.MULTILINE)) == set("0123")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Inside the repository."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_path_named_in_the_documents_exists() -> None:
    """Files move; their names in the text stay behind."""
    for page in PAGES:
        for name in re.findall(r"`((?:etl|tests|bench|docs|notebooks)/[\w./]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_target_of_make_is_explained() -> None:
    """``make help`` lists them all."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def test_the_keyring_of_the_readme_names_its_sources() -> None:
    """Every variable that the loader reads is in the table."""
    import inspect

    from etl.crypto import keyring

    for variable in set(re.findall(r"ETL_KEYRING\w*", inspect.getsource(keyring))):
        assert f"`{variable}`" in README
    assert load_keyring.__doc__
