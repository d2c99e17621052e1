"""Reads YAML."""

from __future__ import annotations

from typing import Any

import yaml

from etl.errors import SettingsError


def read_yaml(text: str, origin: str) -> Any:
    """Read a value from YAML.

    :param origin: where the text came from, for errors
    :raises SettingsError: it is not YAML
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # The mark quotes the line, which may hold a secret; its position is safe to show.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{origin!r} is not YAML{where}") from None
