"""The documents agree with the code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs import costs, generate
from etl.cli import EXIT_CODES, main
from etl.crypto.keyring import load_keyring
from tests.chaos.planted_bugs import BUGS
from tests.unit.builders import ROOT

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

# At the start of a line of code, in backticks, or after another command; not in "import etl".
CALL = re.compile(
    r"(?:python -m |`|&& |^ {4,}(?:\$ )?(?:[A-Z_]+=\S+ )*|^  )etl ([a-z][^\n`|)&#'\\]*)",
    re.MULTILINE,
)


@pytest.mark.parametrize("page", generate.PAGES, ids=lambda page: page.name)
def test_the_generated_parts_of_a_page_are_up_to_date(page: Path) -> None:
    """After a change of what they are made from, ``make docs`` writes them again."""
    assert generate.page(page) == page.read_text()


def test_a_page_without_its_markers_is_not_taken_for_up_to_date() -> None:
    """A part that has no place in its page is an error."""
    with pytest.raises(ValueError, match="0 places for the part 'settings'"):
        generate.put("# Settings\n", "settings", "a table")


def test_every_known_bug_was_caught() -> None:
    """The last ``make bites``, whose table the page shows, planted and caught each of them."""
    bites = json.loads(generate.BITES.read_text())["bites"]
    assert {bug["bug"]: bug["verdict"] for bug in bites} == {bug.name: "caught" for bug in BUGS}


def commands_of(text: str) -> list[str]:
    """The calls of our commands in a text, without ``python -m etl`` or ``etl``."""
    return CALL.findall(text)


def check_call(call: str) -> None:
    """Check that the command that is called exists, and every option of it."""
    command: click.Command = main
    for word in call.split():
        if isinstance(command, click.Group):
            assert word in command.commands, call
            command = command.commands[word]
        elif word.startswith("--"):
            assert word in {"--help", *(o for p in command.params for o in p.opts)}, call


def test_calls_are_found_in_every_spelling() -> None:
    """Without this the tests below could pass because they find no call to check."""
    text = (
        "    python -m etl a\n    etl b --c\n`etl d`, (umask 077 && etl e > f)\nimport etl\n"
        "    A_URL=b://c etl g\n"
    )
    assert [call.split() for call in commands_of(text)] == [
        ["a"],
        ["b", "--c"],
        ["d"],
        ["e", ">", "f"],
        ["g"],
    ]
    assert len(commands_of(README)) >= 6


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_every_command_of_the_documents_exists(page: Path) -> None:
    """Commands and options that a document shows can be typed as they are."""
    for call in commands_of(page.read_text()):
        check_call(call)


def epilogs(command: click.Command) -> Iterator[str]:
    """The ends of the help texts of a command and of those inside it."""
    yield command.epilog or ""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from epilogs(inner)


def test_every_command_of_the_help_exists() -> None:
    """The examples at the end of a help text can be typed as they are."""
    calls = [call for epilog in epilogs(main) for call in commands_of(epilog)]
    assert len(calls) > 20
    assert not any("python -m etl" in epilog for epilog in epilogs(main))
    for call in calls:
        check_call(call)


def test_every_command_of_recovery_is_documented() -> None:
    """docs/operations.md shows an example of each."""
    page = (ROOT / "docs/operations.md").read_text()
    shown = {" ".join(call.split()[:2]) for call in commands_of(page)}
    quarantine = main.commands["quarantine"]
    assert isinstance(quarantine, click.Group)
    assert {f"quarantine {name}" for name in quarantine.commands} <= shown
    assert {"unmask", "audit", "forget", "init"} <= {call.split()[0] for call in shown}


def test_the_readme_is_short_and_starts_with_the_two_commands() -> None:
    """A reader can try the project after 20 words, and read all of the page."""
    words = README.split()
    start = " ".join(words[:20])
    assert "make run" in start
    assert "make test" in start
    assert len(words) < 1300


def test_the_architecture_is_the_third_link_of_the_readme() -> None:
    """A newcomer finds every part of the project on that page."""
    assert re.findall(r"\]\(([^)]+)", README)[2] == "docs/architecture.md"


def test_the_architecture_names_every_module_and_package_and_no_other() -> None:
    """The page follows the tree: modules at the top by name, and every package."""
    modules = set(re.findall(r"[\w/]+\.py\b", ARCHITECTURE))
    assert {name for name in modules if not (ROOT / name).is_file()} <= {
        path.relative_to(ROOT / "etl").as_posix() for path in (ROOT / "etl").rglob("*.py")
    }
    assert {path.name for path in (ROOT / "etl").glob("*.py")} <= modules
    packages = {path.parent.name for path in (ROOT / "etl").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"`etl/(\w+)/`", ARCHITECTURE))


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_a_name_in_parentheses_after_a_file_is_in_that_file(page: str) -> None:
    """The pages that say where to change what name functions, classes and tables."""
    pairs = re.findall(r"`([\w/]+\.py)`\s+\(`([\w.]+)`", (ROOT / page).read_text())
    assert len(pairs) > 4
    for file, name in pairs:
        assert set(name.split(".")) <= words_of(ROOT / file), f"{file}: {name}"


def words_of(file: Path) -> set[str]:
    """The names that a file defines or uses."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    return {
        str(getattr(node, field))
        for node in nodes
        for field in ("name", "id", "attr", "arg")
        if hasattr(node, field)
    }


def test_every_document_is_listed_for_a_reader() -> None:
    """docs/README.md leads to each page, and the index of the decisions to each decision."""
    index = ROOT / "docs/README.md"
    listed = {
        (index.parent / target).resolve()
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", index.read_text())
    }
    missing = {page for page in PAGES if page.parent.name != "decisions"} - listed - {index}
    assert missing == set()


def test_the_exit_codes_of_the_readme_are_those_of_the_help() -> None:
    """The README and the help list the same numbers."""
    table = set(re.findall(r"^\| (\d) \|", README, re.MULTILINE))
    assert table == set(re.findall(r"^  (\d)  ", EXIT_CODES, re.MULTILINE)) == set("0123")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link inside the repository has a file at its end."""
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


def test_the_settings_page_names_the_sources_of_the_keyring() -> None:
    """Every variable that the loader reads is in its table of secrets."""
    import inspect

    from etl.crypto import keyring

    page = (ROOT / "docs/settings.md").read_text()
    for variable in set(re.findall(r"ETL_KEYRING\w*", inspect.getsource(keyring))):
        assert f"`{variable}`" in page
    assert load_keyring.__doc__


def test_the_costs_count_what_the_documents_and_the_template_count() -> None:
    """The table is of the mode `schedule`, so the alarms that scale a service are not in it."""
    assert f"about {costs.METRICS} for a job" in (ROOT / "docs/metrics.md").read_text()
    assert f"7 alarms, {costs.METRICS} metrics" in (ROOT / "docs/production.md").read_text()
