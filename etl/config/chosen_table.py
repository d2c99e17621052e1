"""The one table that a command or a notebook is about."""

from __future__ import annotations

from etl.config.settings import Settings
from etl.errors import UsageError


def one_table(settings: Settings, name: str | None, option: str = "--table") -> Settings:
    """The settings with one table of the job.

    :param name: ``schema.name``, or the name alone if no other schema has it; None if there is
        only one table
    :param option: where the caller can name it
    :raises SettingsError: the job has no table of this name, or several
    :raises UsageError: the job has several tables, and none is named
    """
    if name is not None:
        return settings.of_table(name)
    names = [table.full_name for table in settings.tables]
    if len(names) > 1:
        raise UsageError(
            f"job {settings.job_name!r} has several tables; name one of them with {option}: "
            f"{', '.join(names)}"
        )
    return next(iter(settings.of_each_table()))
