"""Reads the settings from the file, the environment and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etl.config.problems import describe, suggestion
from etl.config.settings import Settings
from etl.config.yaml_text import read_yaml
from etl.errors import SettingsError, may_be_secret

# Variables of ours that are not settings: where the file is, and where the keyring is.
NOT_SETTINGS = {"ETL_CONFIG", "ETL_KEYRING", "ETL_KEYRING_FILE", "ETL_KEYRING_SECRET"}


def load(
    path: Path, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read and check the settings.

    :param path: the YAML file
    :param environment: holds ``ETL_SECTION__KEY`` variables (values are YAML) and ``DATABASE_URL``
    :param overrides: ``{"section.key": value}`` from the command line; None values are skipped
    :raises SettingsError: the file cannot be read, or settings are missing, unknown or out of
        range; the message names all of them
    """
    tree = _read(path)
    for section, key, text, variable in _variables(environment):
        _set(tree, section, key, read_yaml(text, variable), variable)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            section, key = dotted.split(".")
            _set(tree, section, key, value, dotted)
    if "url" in (tree.get("database") or {}):
        raise SettingsError(
            "'database.url' is a secret: take it out of the configuration and set DATABASE_URL"
        )
    if environment.get("DATABASE_URL"):
        tree["database"] = {**(tree.get("database") or {}), "url": environment["DATABASE_URL"]}
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        # include_input=False, since a value may be a secret that was put in the wrong place.
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise SettingsError(
            "; ".join(describe([str(part) for part in p["loc"]], p, tree) for p in problems)
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(_missing(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError(
            f"cannot read {str(path)!r}: {reason}; name another file with --config"
        ) from None
    tree = read_yaml(text, str(path))
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{str(path)!r} must hold sections such as 'queue:' and 'table:'")
    return tree


def _missing(path: Path) -> str:
    if path == Path("config.yaml"):
        return (
            "no config.yaml in this folder; name a file with --config, or create one with: "
            "etl config show > config.yaml"
        )
    name = "of this name" if may_be_secret(str(path)) else repr(str(path))
    return (
        f"no file {name}; name another one with --config, or print the default with: "
        "etl config show"
    )


def _variables(environment: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    settings = []
    for variable in sorted(environment):
        if not variable.startswith("ETL_") or variable in NOT_SETTINGS:
            continue
        section, divider, key = variable.removeprefix("ETL_").lower().partition("__")
        if not divider:
            raise SettingsError(
                f"unknown variable {variable!r}: settings are named ETL_SECTION__KEY, with two "
                "underscores"
            )
        settings.append((section, key, environment[variable], variable))
    return settings


def _set(tree: dict[str, Any], section: str, key: str, value: Any, origin: str) -> None:
    if section not in Settings.model_fields:
        raise SettingsError(
            f"unknown section {section!r} in {origin!r}{suggestion(section, Settings.model_fields)}"
        )
    branch = tree.get(section) or {}
    if not isinstance(branch, dict):
        raise SettingsError(f"{section!r} must be a section with keys")
    tree[section] = {**branch, key: value}
