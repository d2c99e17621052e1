"""The AWS variables of an environment, without the blanks that files and shells leave around them.

A secret mounted as a file ends in a newline, and an empty variable means that there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

KEY = "AWS_ACCESS_KEY_ID"
SECRET = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 (the name of a variable)
TOKENS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
PROFILES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # in the order of botocore
WEB_IDENTITY = "AWS_WEB_IDENTITY_TOKEN_FILE"
ROLE = "AWS_ROLE_ARN"
CONTAINER_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
CONTAINER_TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 (the name of a variable)
CA_BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
# By botocore's names for what they say.
FILES = {"config_file": "AWS_CONFIG_FILE", "credentials_file": "AWS_SHARED_CREDENTIALS_FILE"}
_OTHERS = {"REQUESTS_CA_BUNDLE", "BOTO_CONFIG"}
_AROUND = " \t\r\n\ufeff"


def aws_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Copy an environment, with the AWS variables stripped and the empty ones left out."""
    found = {}
    for name, value in environment.items():
        is_ours = name.startswith("AWS_") or name in _OTHERS
        kept = value.strip(_AROUND) if is_ours else value
        if kept or not is_ours:
            found[name] = kept
    return found


def first_set(variables: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The first of these variables that is set."""
    return next((name for name in names if name in variables), None)


def variables_problem(variables: Mapping[str, str]) -> str | None:
    """What is wrong with the AWS variables, in words that do not quote their values."""
    for name, value in variables.items():
        if name.startswith("AWS_") and value[0] == value[-1] and value[0] in "'\"":
            return f"{name} has quotes around its value: remove them"
    for name in (KEY, SECRET, *TOKENS):
        value = variables.get(name, "")
        # botocore would put it into a header, and http.client would quote it in its error.
        if not (value.isascii() and value.isprintable()) or " " in value:
            return (
                f"{name} has a blank, a line break or another character that no key has: copy it "
                "again"
            )
    for name, other in ((KEY, SECRET), (SECRET, KEY)):
        if name in variables and other not in variables:
            return (
                f"{name} is set, but {other} is not: set both, or unset both to use a profile or a "
                "role"
            )
    token = first_set(variables, TOKENS)
    if token and KEY not in variables and first_set(variables, PROFILES) is None:
        return f"{token} is set, but {KEY} and {SECRET} are not: set all three, or none"
    return None


def proxies(variables: Mapping[str, str], url: str) -> dict[str, str]:
    """The proxies for a URL, by the rules of ``urllib``: lower-case variables come first."""
    found: dict[str, str] = {}
    for name in sorted(variables):  # capitals sort before small letters
        if name.lower().endswith("_proxy") and variables[name].strip():
            found[name.lower().removesuffix("_proxy")] = variables[name].strip()
    if proxy_bypass_environment(urlsplit(url).netloc, found):
        return {}
    return {scheme: found[scheme] for scheme in ("http", "https") if scheme in found}
