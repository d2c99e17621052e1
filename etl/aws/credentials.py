"""Gets the credentials once, so that a fault in them shows before the first call."""

from __future__ import annotations

import logging
import os

from botocore import exceptions as boto

from etl.aws.faults import credentials_fault, may_come_later, process_fault
from etl.aws.session import EnvironmentSession
from etl.aws.variables import CONTAINER_TOKEN, CONTAINER_URI, KEY, ROLE, SECRET, WEB_IDENTITY
from etl.errors import SettingsError

_NOT_IN_KEYS = " '\"\\"

KEY_LOG = "SSLKEYLOGFILE"

log = logging.getLogger(__name__)

SSO: tuple[str, ...] = ("sso_account_id", "sso_role_name")
# botocore's names for where credentials were found, unless it was in a profile.
PLACES = {
    "env": f" in {KEY} and {SECRET}",
    "assume-role-with-web-identity": f" of the role in {ROLE}",
    "container-role": " of this container's role",
    "iam-role": " of this machine's role",
}


def load_credentials(session: EnvironmentSession, region: str) -> None:
    """Get the credentials once, so that a fault in them shows before the first call.

    If the service that gives them does not answer for now, that is left to the first call.
    """
    try:
        session.use_credentials(region)
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except Exception as error:  # noqa: BLE001 (not all that botocore raises is its own)
        if may_come_later(error):
            log.debug("no AWS credentials yet: %s", type(error).__name__)
            return
        raise SettingsError(_credentials_words(error, session)) from None
    if found is None:
        raise SettingsError(
            f"no AWS credentials: set {KEY} and {SECRET}, or AWS_PROFILE, or give this machine a "
            f"role{_half_a_profile_words(session)}{missing_files_words(session)}"
        )
    for key in frozen or ():
        if key and (not key.isascii() or not key.isprintable() or {*key} & {*_NOT_IN_KEYS}):
            raise SettingsError(
                f"the credentials{place(session)} have a blank, quotes or another character that "
                "no key has: copy them again"
            )


def _credentials_words(error: Exception, session: EnvironmentSession) -> str:
    variables = session.variables
    if isinstance(error, boto.InvalidConfigError) and {WEB_IDENTITY, ROLE} - {*variables} == {ROLE}:
        return f"{WEB_IDENTITY} is set, but {ROLE} is not: set both, or none"
    if not isinstance(error, boto.BotoCoreError | boto.ClientError):
        if isinstance(error, OSError) and error.filename is not None:
            for name in (WEB_IDENTITY, CONTAINER_TOKEN):
                if error.filename == variables.get(name):
                    return f"{name} {error.filename!r} cannot be read: {error.strerror}"
            # Python opens it for every connection with TLS, and looks for it only here.
            if error.filename == os.environ.get(KEY_LOG):
                return f"{KEY_LOG} {error.filename!r} cannot be written: {error.strerror}; unset it"
            if error.filename == session.get_scoped_config().get("web_identity_token_file"):
                return (
                    f"the web_identity_token_file {error.filename!r} of profile "
                    f"{session.profile_name!r} cannot be read: {error.strerror}"
                )
        if CONTAINER_URI in variables and isinstance(error, KeyError | TypeError | RuntimeError):
            return (
                f"what answers at {CONTAINER_URI} gives no credentials, or expired ones: correct "
                "the address, or see to the agent that answers there"
            )
        if CONTAINER_URI in variables and isinstance(error, ValueError):
            return (
                f"{CONTAINER_URI} must be an https address or one of this machine, and the token "
                f"in {CONTAINER_TOKEN} or AWS_CONTAINER_AUTHORIZATION_TOKEN one line"
            )
        if "credential_process" in session.get_scoped_config():
            return process_fault(error, session.profile_name)
    return credentials_fault(error, session.profile_name).text


def _half_a_profile_words(session: EnvironmentSession) -> str:
    """What an incomplete profile lacks; botocore skips such a profile without a word."""
    profile = session.get_scoped_config()
    if any(name.startswith("sso_") for name in profile):
        needed = SSO
    elif ROLE in session.variables and WEB_IDENTITY not in session.variables:
        return f"; {ROLE} is set, but {WEB_IDENTITY} is not"
    elif "aws_secret_access_key" in profile:
        needed = ("aws_access_key_id",)
    else:
        return ""
    lacking = " and ".join(repr(name) for name in needed if name not in profile)
    return f"; profile {session.profile_name!r} lacks {lacking}" if lacking else ""


def place(session: EnvironmentSession) -> str:
    """Which credentials are in use, in words that follow "the credentials"."""
    found = session.get_credentials()
    return PLACES.get(found.method if found else "", f" of profile {session.profile_name!r}")


def missing_files_words(session: EnvironmentSession) -> str:
    """Name the files that are not there or cannot be read, after a fault that may come from it."""
    return "".join(f"; {words}" for words in session.missing_files())
