"""Reads the settings from the file, the environment and the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etl.config import problems, slips
from etl.config.conversion import fields, is_single, sections, typed
from etl.config.settings import Settings
from etl.config.yaml_text import Document, Scalar, read_yaml
from etl.errors import SettingsError, may_be_secret, nearest, suggestion
from etl.text import decoded, read_at_most, unquoted

# Variables of ours that are not settings: where the file is, where the keyring is, and which table
# a notebook opens.
NOT_SETTINGS = {
    *("ETL_CONFIG", "ETL_KEYRING", "ETL_KEYRING_FILE", "ETL_KEYRING_SECRET"),
    "ETL_NOTEBOOK_TABLE",
}

MAX_BYTES = 10_000_000  # of the file

# Docker and systemd take what follows a value as part of it.
_COMMENT = re.compile(r"\s#(\s|$)")

# What Kubernetes sets in every pod of a namespace for a service that is named etl or etl-...
_SERVICE_LINK = re.compile(
    r"(ETL(?:_+[A-Z0-9]+)*?)_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


def load(
    path: Path, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read and check the settings.

    :param path: the YAML file
    :param environment: holds ``DATABASE_URL`` and ``ETL_SECTION__KEY`` variables: a text or a word
        as it is, a number as in YAML, a list as YAML or JSON; a blank one counts as unset
    :param overrides: ``{"section.key": value}`` from the command line; None values are skipped
    :raises SettingsError: the file cannot be read, or settings are missing, unknown or out of
        range; the message names all of them, each with its line or variable
    """
    given = _Given(path)
    for section, key, text, variable in _variables(environment, given.problems):
        given.set_variable(section, key, text, variable)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            section, key = dotted.split(".")
            given.set((section, key), value, "")
    return given.checked(environment.get("DATABASE_URL"))


class _Given:
    """The values from all sources so far, where each comes from, and what is wrong with them."""

    def __init__(self, path: Path) -> None:
        document = _read(path)
        self.problems = document.problems
        self.origins = {
            place: f"{path} line {line}" for place, line in document.lines.items() if place
        }
        tree = typed(document.tree, Settings)
        if isinstance(tree, dict):
            self.tree: dict[str, Any] = tree
            return
        raise SettingsError(f"{str(path)!r} must hold sections such as 'queue:' and 'table:'")

    def set_variable(self, section: str, key: str, text: str, variable: str) -> None:
        """Set a value from the text of a variable."""
        model = sections(Settings).get(section)
        if model is None:
            self.problems.append(
                f"unknown section {section!r} in {variable!r}"
                f"{suggestion(section, Settings.model_fields)}"
            )
            return
        info = fields(model).get(key)
        document = Document(_scalar(text), {}, [])
        if document.tree.plain and (info is None or is_single(info.annotation)):
            found = slips.slip(document.tree.text)
            if _COMMENT.search(document.tree.text):
                found = "has a comment after its value, which becomes part of it: take it out"
            if found:
                self.problems.append(f"{variable!r} {found}")
                return
        if info is not None and not is_single(info.annotation):
            try:
                document = read_yaml(unquoted(text), variable)
            except SettingsError as error:
                self.problems.append(str(error))
                return
        self.problems += document.problems
        value = typed(document.tree, info.annotation) if info else document.tree
        self.set((section, key), value, variable)

    def set(self, place: tuple[str, str], value: Any, origin: str) -> None:
        """Set a value in place of what an earlier source has given."""
        section, key = place
        # One that is not a section stays, to be refused.
        if isinstance(self.tree.setdefault(section, {}), dict):
            self.tree[section] = {**self.tree[section], key: value}
        for known in [known for known in self.origins if known[:2] == place]:
            del self.origins[known]
        self.origins[place] = origin

    def checked(self, database_url: str | None) -> Settings:
        """Check all values together.

        :raises SettingsError: the message names all problems
        """
        database = self.tree.get("database", {})
        if isinstance(database, dict) and "url" in database:
            self.problems.append(
                "'database.url' is a secret: take it out of the configuration and set DATABASE_URL"
                f"{problems.origin(('database', 'url'), self.origins)}"
            )
            del database["url"]
        if isinstance(database, dict) and database_url:
            self.tree["database"] = {**database, "url": database_url}
        settings = None
        try:
            settings = Settings.model_validate(self.tree, by_alias=True, by_name=False)
        except ValidationError as error:
            # include_input=False, since a value may be a secret that was put in the wrong place.
            for problem in error.errors(include_url=False, include_input=False):
                self.problems.append(problems.sentence(problem, self.tree, self.origins))
        if settings is None or self.problems:
            raise SettingsError(problems.joined(self.problems))
        return settings


def _scalar(text: str) -> Scalar:
    bare = unquoted(text)
    return Scalar(bare, plain=bare == text.strip())


def _read(path: Path) -> Document:
    text = None
    try:
        with path.open("rb") as file:
            text = decoded(read_at_most(file, MAX_BYTES))
    except FileNotFoundError:
        raise SettingsError(_missing(path)) from None
    except OSError as error:
        reason = error.strerror
    else:
        reason = "not text in UTF-8"
    if text is None:
        raise SettingsError(f"cannot read {str(path)!r}: {reason}; name another file with --config")
    document = read_yaml(text, str(path))
    # A file in which every line is a comment.
    empty = document.tree is None or document.tree == Scalar("")
    return Document({} if empty else document.tree, document.lines, document.problems)


def _missing(path: Path) -> str:
    if path == Path("config.yaml"):
        return (
            "no config.yaml in this folder; name a file with --config, or create one with: "
            "etl config show > config.yaml"
        )
    name = "of this name" if may_be_secret(str(path)) else repr(str(path))
    meant = nearest(path.name, [file.name for file in path.parent.glob("*.y*ml")])
    hint = f"did you mean {str(path.parent / meant)!r}? else " if meant else ""
    return (
        f"no file {name}; {hint}name another one with --config, or print the default with: "
        "etl config show"
    )


def _variables(
    environment: Mapping[str, str], unknown: list[str]
) -> list[tuple[str, str, str, str]]:
    """Find the variables that are settings: section, key, text and name of each.

    :param unknown: gets a sentence for each variable that is like a setting, but is none
    """
    settings: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    for variable in sorted(environment):
        if not variable.startswith("ETL_"):
            capitals = variable.strip().upper()
            if capitals.startswith("ETL_") and capitals in _known_variables():
                unknown.append(f"variable {variable!r} is not read: name it {capitals!r}")
            continue
        if variable in NOT_SETTINGS:
            continue
        if _is_service_link(variable, environment):
            continue
        section, divider, key = variable.removeprefix("ETL_").lower().partition("__")
        if not divider:
            meant = nearest(variable, _known_variables())
            hint = f"; did you mean {meant!r}?" if meant else ""
            unknown.append(
                f"unknown variable {variable!r}: settings are named ETL_SECTION__KEY, with two "
                f"underscores{hint}"
            )
        elif (section, key) in settings:
            first = settings[section, key][-1]
            unknown.append(f"{first!r} and {variable!r} are the same setting: unset one of them")
        elif unquoted(environment[variable]).strip():
            settings[section, key] = (section, key, environment[variable], variable)
    return list(settings.values())


def _is_service_link(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes set a variable for a service, and nobody meant a setting by it."""
    link = _SERVICE_LINK.fullmatch(variable)
    # A service may have two hyphens in its name, but then its address is there too.
    return link is not None and ("__" not in variable or f"{link[1]}_SERVICE_HOST" in environment)


def _known_variables() -> list[str]:
    """Every variable that may be set, apart from libpq's and those of AWS."""
    settings = {
        f"ETL_{section}__{key}".upper()
        for section, model in sections(Settings).items()
        for key in fields(model)
    }
    return sorted((settings | NOT_SETTINGS | {"DATABASE_URL"}) - {"ETL_DATABASE__URL"})
