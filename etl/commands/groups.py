"""Groups of commands: their help shows whole summaries, under headings where there are many."""

from __future__ import annotations

import re
from typing import Any

import click


class ValueCommand(click.Command):
    """A command whose arguments may be personal values, which its errors do not repeat."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; count those that are too many instead of naming them."""
        ctx.allow_extra_args = True
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if re.fullmatch("--?[a-z][a-z-]*", error.option_name):
                raise
            ctx.fail("unknown option; give a value that begins with - on standard input")
        if rest:
            ctx.fail(
                f"{len(rest)} arguments too many; quote a value with spaces for the shell, or give "
                "it on standard input"
            )
        return rest


class Group(click.Group):
    """A click group with whole summaries, headings, and old names that still work."""

    group_class = type  # groups inside this one are of this class too

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headings: dict[str, list[str]] = {}
        self.old_names: dict[str, str] = {}

    def add_commands(self, heading: str, *commands: click.Command) -> None:
        """Add commands that the help lists under this heading, in this order."""
        for command in commands:
            self.add_command(command)
        self.headings[heading] = [str(command.name) for command in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command by its name, or by an old name, which no help shows."""
        return super().get_command(ctx, self.old_names.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every command with its whole first sentence, which click would cut to one line."""
        listed = {name for names in self.headings.values() for name in names}
        others = [name for name in self.list_commands(ctx) if name not in listed]
        # A command that was added without a heading must not vanish from the help.
        headings = {**self.headings, "Other commands" if listed else "Commands": others}
        width = max(map(len, self.commands), default=0)
        for heading, names in headings.items():
            rows = [
                (name.ljust(width), command.get_short_help_str(limit=10_000))
                for name in names
                if (command := self.get_command(ctx, name)) and not command.hidden
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
