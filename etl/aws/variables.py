"""The AWS variables of an environment, without the blanks that files and shells leave around them.

A secret mounted as a file ends in a newline, and an empty variable means that there is none.
"""

from __future__ import annotations

from collections.abc import Mapping

from etl.errors import SettingsError

KEY = "AWS_ACCESS_KEY_ID"
SECRET = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 (the name of a variable)
TOKENS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
PROFILES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # in the order of botocore
CA_BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
FILES = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
_OTHERS = {"REQUESTS_CA_BUNDLE", "BOTO_CONFIG"}
_AROUND = " \t\r\n\ufeff"


def aws_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Copy an environment, with the AWS variables stripped and the empty ones left out.

    :raises SettingsError: a value is in quotes, a key has blanks, or one half of a pair is missing
    """
    found = {}
    for name, value in environment.items():
        if name.startswith("AWS_") or name in _OTHERS:
            stripped = value.strip(_AROUND)
            if len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "'\"":
                raise SettingsError(f"{name} has quotes around its value: remove them")
            if stripped:
                found[name] = stripped
        else:
            found[name] = value
    _check_keys(found)
    return found


def first_set(variables: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The first of these variables that is set."""
    return next((name for name in names if name in variables), None)


def _check_keys(variables: Mapping[str, str]) -> None:
    for name in (KEY, SECRET, *TOKENS):
        value = variables.get(name, "")
        # botocore would put it into a header, and http.client would quote it in its error.
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise SettingsError(
                f"{name} has a blank, a line break or another character that no key has: copy it "
                "again"
            )
    for name, other in ((KEY, SECRET), (SECRET, KEY)):
        if name in variables and other not in variables:
            raise SettingsError(
                f"{name} is set, but {other} is not: set both, or unset both to use a profile or a "
                "role"
            )
    token = first_set(variables, TOKENS)
    if token and KEY not in variables and first_set(variables, PROFILES) is None:
        raise SettingsError(
            f"{token} is set, but {KEY} and {SECRET} are not: set all three, or none"
        )
