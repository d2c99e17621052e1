"""The text of ``--help`` at 80 columns: whole sentences, and every command under a heading."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from etl.analysis.linked import DEFAULT_TOP
from etl.cli import main
from etl.commands.groups import Group
from etl.commands.report import report_duplicates


def groups(group: click.Group, *path: str) -> dict[str, click.Group]:
    """Every group of commands, by the words that call it."""
    found = {" ".join(path): group}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= groups(command, *path, name)
    return found


GROUPS = groups(main)


def help_of(call: str) -> str:
    """The help of a command, as a terminal of 80 columns shows it."""
    result = CliRunner().invoke(main, [*call.split(), "--help"], terminal_width=80)
    assert result.exit_code == 0, result.output
    return result.output


def all_calls(group: click.Group, *path: str) -> Iterator[str]:
    """The words that call each command and each group."""
    yield " ".join(path)
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_calls(command, *path, name)
        else:
            yield " ".join([*path, name])


@pytest.mark.parametrize("call", list(all_calls(main)))
def test_no_line_of_the_help_is_longer_than_the_terminal(call: str) -> None:
    """The examples are not wrapped, so they must be short enough."""
    assert [line for line in help_of(call).splitlines() if len(line) > 80] == []


def summaries(output: str) -> dict[str, str]:
    """The commands that a help text lists, each with its summary on one line."""
    listed: dict[str, str] = {}
    section = name = ""
    for line in output.splitlines():
        if re.match(r"\S.*:$", line):
            section = line
        elif section in ("", "Options:") or not line.strip():
            continue
        elif match := re.match(r"  ([a-z]\S*)  +(\S.*)", line):
            name = match[1]
            listed[name] = match[2]
        elif re.match(r" {6,}\S", line):
            listed[name] += f" {line.strip()}"
        else:
            section = ""  # the epilog
    return listed


@pytest.mark.parametrize("call", GROUPS)
def test_the_help_of_a_group_shows_every_summary_whole(call: str) -> None:
    """No summary is cut, and none is missing."""
    commands = GROUPS[call].commands
    whole = {
        name: command.get_short_help_str(limit=10_000)
        for name, command in commands.items()
        if not command.hidden
    }
    assert summaries(help_of(call)) == whole


@pytest.mark.parametrize("call", GROUPS)
def test_no_line_of_the_help_is_cut(call: str) -> None:
    """Only the usage line ends in dots: there they mean that an argument repeats."""
    output = help_of(call)
    cut = [line for line in output.splitlines() if line.rstrip().endswith(("...", "…"))]
    assert cut == [line for line in cut if line.startswith("Usage: ")]


def test_every_command_is_under_a_heading() -> None:
    """The headings tell the engineer, the analyst and the officer where to look."""
    listed = [name for names in main.headings.values() for name in names]
    assert sorted(listed) == sorted(main.commands)
    assert "Other commands" not in help_of("")


def test_a_command_without_a_heading_does_not_vanish() -> None:
    """It is listed last, under a heading that the test above refuses."""
    group = Group("etl")
    group.add_commands("Run", click.Command("run", help="Run it."))
    group.add_command(click.Command("stray", help="A stray one."))
    output = CliRunner().invoke(group, ["--help"]).output
    assert re.search(r"^Run:\n  run +Run it\.\n\nOther commands:\n  stray  A", output, re.MULTILINE)


def test_an_old_name_works_and_is_not_shown() -> None:
    """``runs`` is one slip away from ``run``, which drains the queue."""
    for old, new in main.old_names.items():
        assert old not in main.commands
        assert old not in summaries(help_of(""))
        assert help_of(old).partition("\n")[2] == help_of(new).partition("\n")[2]


def test_the_report_shows_as_many_rows_as_the_analysis() -> None:
    """The command repeats the number, because the help must not wait for pandas."""
    (top,) = (option for option in report_duplicates.params if option.name == "top")
    assert top.default == DEFAULT_TOP


@pytest.mark.parametrize("call", ["unmask", "quarantine show 1", "quarantine discard 1"])
def test_a_reason_without_a_default_is_required(call: str) -> None:
    """Without one the command is wrong usage, before it reads any settings."""
    result = CliRunner().invoke(main, call.split())
    assert result.exit_code == 2
    assert "Missing option '--reason'" in result.output
