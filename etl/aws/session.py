"""A botocore session whose variables come from a mapping instead of this process's environment.

botocore reads ``os.environ`` in many places. What it reads there in spite of this: the home
directory, in which its files are by default.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from getpass import getpass
from pathlib import Path
from typing import Any

import botocore.session
from botocore import configprovider, credentials
from botocore.config import Config
from botocore.exceptions import RefreshWithMFAUnsupportedError
from botocore.utils import (
    CLIENT_NAME_TO_HYPHENIZED_SERVICE_ID_OVERRIDES,
    InstanceMetadataFetcher,
    resolve_imds_endpoint_mode,
)

from etl.aws import models
from etl.aws.variables import FILES, PROFILES, REGIONS, ROLE, WEB_IDENTITY, first_set, proxies

# STS, SSO and the like are asked before a call can be made. With botocore's own limits an
# unreachable one would take minutes to fail.
CONNECT_SECONDS = 5
ANSWER_SECONDS = 10
MAX_ATTEMPTS = 3
PROCESS_SECONDS = 60  # how long a credential_process may take
_WEB_IDENTITY = {
    "web_identity_token_file": WEB_IDENTITY,
    "role_arn": ROLE,
    "role_session_name": "AWS_ROLE_SESSION_NAME",
}


class EnvironmentSession(botocore.session.Session):
    """A session of an environment. Its constructor and all its methods may raise botocore's errors.

    Regions are read in the order of the other AWS tools: botocore itself ignores AWS_REGION.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__()
        self.variables = variables
        factory = configprovider.ConfigChainFactory(session=self, environ=dict(variables))
        store = self.get_component("config_store")
        for name, options in configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
            in_files, in_environment, default, convert = options
            chain = factory.create_config_chain(
                instance_name=name,
                env_var_names=list(REGIONS) if name == "region" else in_environment,
                config_property_names=in_files,
                default=default,
                conversion_func=convert,
            )
            store.set_config_provider(name, chain)

    @property
    def profile_name(self) -> str:
        """The name of the profile in use."""
        return str(self.profile or "default")

    @property
    def profile_source(self) -> str:
        """What chose the profile, in words."""
        variable = first_set(self.variables, PROFILES)
        return f"{variable} names" if variable else "the AWS configuration has"

    def missing_files(self) -> list[str]:
        """Which of the files cannot be read, in words; botocore treats them as empty."""
        found = []
        for name, variable in FILES.items():
            path = Path(self.get_config_variable(name)).expanduser()
            if variable in self.variables and (not path.exists() or path.is_dir()):
                found.append(f"there is no file at {variable} {self.variables[variable]!r}")
            elif path.exists() and not os.access(path, os.R_OK):
                found.append(f"{str(path)!r} cannot be read by user {os.geteuid()} of this process")
        return found

    def endpoint(self, service: str) -> tuple[str, str] | None:
        """The configured endpoint of a service and where it comes from; None if there is none."""
        if self.get_config_variable("ignore_configured_endpoint_urls"):
            return None
        own_name = CLIENT_NAME_TO_HYPHENIZED_SERVICE_ID_OVERRIDES.get(service, service)
        own_variable = f"AWS_ENDPOINT_URL_{own_name.upper().replace('-', '_')}"
        for name in (own_variable, "AWS_ENDPOINT_URL"):
            if name in self.variables:
                return self.variables[name], name
        provider = configprovider.ConfiguredEndpointProvider(
            full_config=self.full_config,
            scoped_config=self.get_scoped_config(),
            client_name=service,
            environ={},
        )
        url = provider.provide()
        return (str(url), f"profile {self.profile_name!r}") if url else None

    @property
    def ca_bundle(self) -> str | None:
        """The file of the authorities that TLS trusts; None for those that come with botocore."""
        return self.get_config_variable("ca_bundle") or self.variables.get("REQUESTS_CA_BUNDLE")

    def create_client(self, service_name: str, *args: Any, **options: Any) -> Any:
        """Make a client, also the clients that get credentials.

        Endpoint, proxies and authorities are always given: botocore would look for them itself.
        """
        endpoint = self.endpoint(service_name)
        options.setdefault("endpoint_url", endpoint[0] if endpoint else None)
        region = options.get("region_name") or self.get_config_variable("region")
        url = options["endpoint_url"] or f"https://{service_name}.{region}.amazonaws.com"
        limits = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
            proxies=proxies(self.variables, url),
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]
        )
        options.setdefault("verify", self.ca_bundle or True)
        self.register_component("data_loader", models.loader(self.get_config_variable("data_path")))
        given = options.pop("config", None)
        options["config"] = limits.merge(given) if given else limits
        return super().create_client(service_name, *args, **options)

    def use_credentials(self, region: str | None) -> None:
        """Look for credentials in the variables, then in the other places of botocore.

        :param region: of the STS that is asked, if the session has none
        """
        self.register_component("credential_provider", _resolver(self, region))


class _Profiles(credentials.ProfileProviderBuilder):
    """The sources of credentials in a profile, of which none reads ``os.environ``."""

    def __init__(self, session: EnvironmentSession, cache: dict[str, Any], region: str | None):
        super().__init__(session, cache=cache, region_name=region)
        self._environment_session = session

    def providers(self, profile_name: str, disable_env_vars: bool = True) -> list[Any]:  # noqa: ARG002
        session = self._environment_session
        process = credentials.ProcessProvider(
            profile_name,
            lambda: session.full_config,
            popen=lambda command, **_: _Process(command, session.variables),
        )
        return [
            process if isinstance(provider, credentials.ProcessProvider) else provider
            for provider in super().providers(profile_name, disable_env_vars=True)
        ]


def _resolver(session: EnvironmentSession, region: str | None) -> Any:
    """The sources of botocore's ``create_credential_resolver``, in its order."""
    variables = dict(session.variables)
    cache: dict[str, Any] = {}
    name = session.profile_name

    def client(service: str, **options: Any) -> Any:
        return session.create_client(service, **{"region_name": region, **options})

    environment = credentials.EnvProvider(environ=variables)
    container = credentials.ContainerProvider(environ=variables)
    metadata = credentials.InstanceMetadataProvider(iam_role_fetcher=_metadata_fetcher(session))
    profiles = _Profiles(session, cache, region)
    role = credentials.AssumeRoleProvider(
        load_config=lambda: session.full_config,
        client_creator=client,
        cache=cache,
        profile_name=name,
        credential_sourcer=credentials.CanonicalNameCredentialSourcer(
            [environment, container, metadata]
        ),
        profile_provider_builder=profiles,
        prompter=_ask_for_mfa_code,
    )
    identity = {key: variables[v] for key, v in _WEB_IDENTITY.items() if v in variables}
    web_identity = credentials.AssumeRoleWithWebIdentityProvider(
        load_config=lambda: {
            "profiles": {name: {**session.full_config["profiles"].get(name, {}), **identity}}
        },
        client_creator=client,
        profile_name=name,
        cache=cache,
        disable_env_vars=True,
    )
    return credentials.CredentialResolver(
        providers=[
            environment,
            role,
            web_identity,
            *profiles.providers(name),
            credentials.OriginalEC2Provider(environ=variables),
            credentials.BotoProvider(environ=variables),
            container,
            metadata,
        ]
    )


def _ask_for_mfa_code(prompt: str) -> str:
    """Ask a person, if one is there.

    :raises RefreshWithMFAUnsupportedError: nobody is there
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise RefreshWithMFAUnsupportedError
    return getpass(prompt)


def _metadata_fetcher(session: EnvironmentSession) -> Any:
    names = ("ec2_metadata_service_endpoint", "ec2_metadata_v1_disabled")
    return InstanceMetadataFetcher(
        timeout=session.get_config_variable("metadata_service_timeout"),
        num_attempts=session.get_config_variable("metadata_service_num_attempts"),
        user_agent=session.user_agent(),
        env=dict(session.variables),
        config={
            **{name: session.get_config_variable(name) for name in names},
            "ec2_metadata_service_endpoint_mode": resolve_imds_endpoint_mode(session),
            "ec2_credential_refresh_window": 15 * 60,
        },
    )


class _Process:
    """What botocore's ``ProcessProvider`` asks of a ``Popen``; it does not run for ever."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._done = subprocess.run(  # noqa: S603 (the user's own command)
            command,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROCESS_SECONDS,
            check=False,
        )
        self.returncode = self._done.returncode

    def communicate(self) -> tuple[bytes, bytes]:
        """What it has printed."""
        return self._done.stdout, self._done.stderr
