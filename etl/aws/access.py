"""How to reach an AWS service: its region, its endpoint and credentials, and a client of it.

Everything that a mistake in the configuration can spoil is looked at here, before the first call.
"""

from __future__ import annotations

import logging
import multiprocessing
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as boto
from botocore.config import Config

from etl.aws import endpoints, regions
from etl.aws.connections import Destination
from etl.aws.credentials import load_credentials, missing_files_words, place
from etl.aws.faults import credentials_fault
from etl.aws.session import EnvironmentSession
from etl.aws.variables import (
    CA_BUNDLES,
    REGIONS,
    aws_variables,
    first_set,
    proxies,
    variables_problem,
)
from etl.errors import SettingsError, nearest

log = logging.getLogger(__name__)

MAX_NAMES = 8  # of profiles, in an error


@dataclass(frozen=True)
class Access:
    """What a client of one service is made from."""

    service: str  # botocore's name, such as sqs
    region: str
    endpoint_url: str | None = field(repr=False)  # None: that of AWS
    session: EnvironmentSession = field(repr=False)

    @property
    def profile(self) -> str:
        """The name of the profile in use."""
        return self.session.profile_name

    @property
    def credentials(self) -> str:
        """Which credentials are in use, in words that follow "the credentials"."""
        return place(self.session)


def find_access(
    service: str,
    environment: Mapping[str, str],
    *,
    queue_url: str | None = None,
    secret_id: str | None = None,
    database_host: str | None = None,
) -> Access:
    """Find region, endpoint and credentials of a service.

    The region is that of AWS_REGION, AWS_DEFAULT_REGION or the profile. If a queue's URL, the ARN
    of a secret or the host of a database has another one, it is taken, and a log line says so.

    :param environment: has the AWS variables; those of this process are not looked at
    :raises SettingsError: something in the AWS configuration cannot be used
    """
    variables = aws_variables(environment)
    problem = variables_problem(variables)
    if problem:
        raise SettingsError(problem)
    session = EnvironmentSession(variables)
    with _configuration(session):
        # Reads the files and looks for the profile.
        session.get_scoped_config()
        endpoint = session.endpoint(service)
        if endpoint:
            endpoints.check_endpoint(*endpoint)
        endpoint_url = endpoint[0] if endpoint else None
        if queue_url is not None:
            endpoints.check_queue_url(queue_url, endpoint_url)
            endpoint_url = endpoint_url or regions.own_endpoint(queue_url)
            own_region = regions.region_of_queue(queue_url)
            region = _region(session, own_region, "the queue's URL")
        elif database_host is not None:
            own_region = regions.region_of_database(database_host)
            region = _region(session, own_region, "the host in DATABASE_URL")
        else:
            own_region = regions.region_of_secret(secret_id or "")
            region = _region(session, own_region, "the secret's ARN")
        if endpoint_url is None or endpoint_url.startswith("https:"):
            _check_ca_bundle(session)
        url = endpoint_url or f"https://{service}.{region}.amazonaws.com"
        for scheme, proxy in proxies(variables, url).items():
            endpoints.check_proxy(proxy, scheme)
        load_credentials(session, region)
    return Access(service, region, endpoint_url, session)


def known_regions(session: EnvironmentSession) -> list[str]:
    """The regions of AWS that botocore knows."""
    partitions = session.get_available_partitions()
    return [r for name in partitions for r in session.get_available_regions("sqs", name)]


def open_client(access: Access, config: Config | None = None) -> Any:
    """Make a client. Calls nothing.

    :raises SettingsError: something in the AWS configuration cannot be used
    """
    try:
        return access.session.create_client(
            access.service,
            region_name=access.region,
            endpoint_url=access.endpoint_url,
            config=config,
        )
    except (boto.BotoCoreError, ValueError) as error:
        raise SettingsError(unusable(error)) from None


def destination(access: Access, client: Any, service: str) -> Destination:
    """Where the calls of a client go.

    :param service: its name in words
    """
    url = str(client.meta.endpoint_url)
    return Destination(
        service=service,
        url=url,
        region=access.region,
        profile=access.profile,
        credentials=access.credentials,
        is_aws=regions.is_aws_host(urlsplit(url).hostname or ""),
        suggestion=lambda: regions.nearest_region(access.region, known_regions(access.session)),
    )


def _region(session: EnvironmentSession, own_region: str | None, its_place: str) -> str:
    """Choose the region.

    :param own_region: of the queue, the secret or the database, if that says its region
    :param its_place: where it says so, in words
    """
    configured = session.get_config_variable("region")
    variable = first_set(session.variables, REGIONS)
    source = variable or f"profile {session.profile_name!r}"
    if configured:
        regions.check_region(configured, source, lambda: known_regions(session))
    if configured and own_region and configured != own_region and is_main_process():
        log.warning(
            "the region in %s is %r, but %s is in %r: using that",
            source,
            configured,
            its_place,
            own_region,
        )
    if not (own_region or configured):
        raise SettingsError(
            "no AWS region: set AWS_REGION, or 'region' in the profile"
            f"{missing_files_words(session)}"
        )
    return str(own_region or configured)


def is_main_process() -> bool:
    """Whether this is not a worker, which would only repeat what its parent has said."""
    return multiprocessing.parent_process() is None


def _check_ca_bundle(session: EnvironmentSession) -> None:
    path = session.ca_bundle
    if not path:
        return
    source = first_set(session.variables, CA_BUNDLES) or f"profile {session.profile_name!r}"
    try:
        with Path(path).open("rb"):  # OpenSSL takes a folder, and finds nothing in it
            pass
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        problem = "has no certificate in the PEM format"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    else:
        return
    raise SettingsError(f"the CA bundle {path!r} of {source} {problem}")


@contextmanager
def _configuration(session: EnvironmentSession) -> Iterator[None]:
    """Turn what botocore raises about its configuration into one line."""
    try:
        yield
    except SettingsError:
        raise
    except boto.ProfileNotFound:
        raise SettingsError(_no_profile_words(session)) from None
    except boto.ConfigParseError as error:
        raise SettingsError(
            f"the AWS configuration file {error.kwargs.get('path')!r} cannot be parsed: correct "
            "it, or name another one in AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE"
        ) from None
    except boto.InvalidConfigError as error:
        raise SettingsError(credentials_fault(error, session.profile_name).text) from None
    except (boto.BotoCoreError, ValueError, OSError) as error:
        raise SettingsError(unusable(error)) from None


def _no_profile_words(session: EnvironmentSession) -> str:
    name = str(session.get_config_variable("profile"))
    known = sorted(session.available_profiles)
    meant = nearest(name, known)
    if name in session.full_config:
        hint = f", but a section [{name}] in the configuration file: write [profile {name}] there"
    elif f"profile {name}" in known:
        hint = f", but a section [profile {name}] in the credentials file: write [{name}] there"
    elif meant:
        hint = f"; did you mean {meant!r}?"
    elif known:
        more = ", ..." if len(known) > MAX_NAMES else ""
        hint = f"; there are {', '.join(map(repr, known[:MAX_NAMES]))}{more}"
    else:
        hint = "; there are no profiles"
    return (
        f"{session.profile_source} profile {regions.shown_name(name)}, which does not exist{hint}"
        f"{missing_files_words(session)}"
    )


def unusable(error: Exception) -> str:
    """What to say of an error whose own text quotes values, which can have a password in them."""
    return (
        f"the AWS configuration cannot be used ({type(error).__name__}); check the AWS variables "
        "and the profile"
    )
