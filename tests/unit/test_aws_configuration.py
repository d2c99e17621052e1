"""Faults in the AWS configuration: one line that names the cause and the way out, exit code 2.

Each case is an environment with nothing else in it, and files as a user would write them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from etl.config import QueueSettings
from etl.errors import SettingsError
from etl.sqs.client import open_queue
from tests.unit.aws_server import serve

SECRET = "Sw0rdfish"
URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/logins"
ROLE = "role_arn = arn:aws:iam::123456789012:role/loader\n"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET}
REGION = {"AWS_REGION": "eu-west-1"}
REFUSED = "http://127.0.0.1:9"  # no server has this port
SSO_SESSION = (
    "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://x.awsapps.com/start\n"
)
SSO_PROFILE = "sso_account_id = 123456789012\nsso_role_name = loader\n"


@dataclass(frozen=True)
class Case:
    """An environment, its files, and what the error says."""

    name: str
    says: str  # a regular expression of the whole line
    variables: dict[str, str] = field(default_factory=dict)
    profile: str = ""  # the lines of profile "nightly", which is in use
    config: str = ""  # the other lines of the configuration file
    url: str = URL
    has_keys: bool = False
    has_region: bool = True

    def environment(self, folder: Path) -> dict[str, str]:
        """Write the files; return the variables."""
        variables = {
            # What no case may depend on: files of this machine, and a role of it.
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
            **(KEYS if self.has_keys else {}),
            **(REGION if self.has_region else {}),
        }
        (folder / "credentials").touch()
        text = self.config
        if self.profile:
            variables["AWS_PROFILE"] = "nightly"
            text = f"[profile nightly]\n{self.profile}\n{self.config}"
        (folder / "config").write_text(text)
        (folder / "text").write_text("no certificate\n")
        variables |= {name: v.replace("{}", str(folder)) for name, v in self.variables.items()}
        return variables


def keys(name: str, says: str, **variables: str) -> Case:
    """A case with keys and a region."""
    return Case(name, says, variables, has_keys=True)


def url(name: str, text: str, says: str) -> Case:
    """A case with a wrong queue URL."""
    return Case(name, rf"the queue's URL \('queue.url'\) {says}", url=text, has_keys=True)


def process(name: str, command: str, says: str) -> Case:
    """A case with a credential_process."""
    says = rf"the credential_process of profile 'nightly' {says}"
    return Case(name, says, profile=f"credential_process = {command}")


EXAMPLE = re.escape(repr(URL))
LOGIN = (
    "the SSO login of profile 'nightly' has expired or was never made: "
    "run 'aws sso login --profile nightly'"
)
NO_KEYS = (
    "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give "
    "this machine a role"
)
CASES = [
    Case("no credentials", NO_KEYS),
    Case(
        "a key without its secret",
        "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not: "
        "set both, or unset both to use a profile or a role",
        {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE"},
    ),
    Case(
        "a secret without its key",
        "AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not: set both, .*",
        {"AWS_SECRET_ACCESS_KEY": SECRET},
    ),
    Case(
        "a token without its key",
        "AWS_SESSION_TOKEN is set, but AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY are not: set all three, or none",
        {"AWS_SESSION_TOKEN": SECRET},
    ),
    Case(
        "a blank secret",
        "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not: .*",
        {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": " \n"},
    ),
    keys(
        "a blank in a secret",
        "AWS_SECRET_ACCESS_KEY has a blank, a line break or another .*",
        AWS_SECRET_ACCESS_KEY=f"{SECRET} {SECRET}",
    ),
    keys(
        "a line break in a token",
        "AWS_SESSION_TOKEN has a blank, a line break or another .*",
        AWS_SESSION_TOKEN=f"{SECRET}\n{SECRET}",
    ),
    keys(
        "a secret in quotes",
        "AWS_SECRET_ACCESS_KEY has quotes around its value: remove them",
        AWS_SECRET_ACCESS_KEY=f"'{SECRET}'",
    ),
    keys(
        "a region in quotes",
        "AWS_REGION has quotes around its value: remove them",
        AWS_REGION='"eu-west-1"',
    ),
    Case(
        "no region",
        "no AWS region: set AWS_REGION, or 'region' in the profile",
        {"AWS_ENDPOINT_URL": REFUSED},
        url=f"{REFUSED}/000000000000/q",
        has_keys=True,
        has_region=False,
    ),
    keys(
        "blanks in a region",
        "the region in AWS_REGION is 'eu west 1', which is not the name of a "
        "region; did you mean 'eu-west-1'\\?",
        AWS_REGION="eu west 1",
    ),
    keys(
        "an underscore in a region",
        "the region in AWS_REGION is 'eu_west_1', .* did you mean 'eu-west-1'\\?",
        AWS_REGION="eu_west_1",
    ),
    keys(
        "a region in capitals",
        "the region in AWS_REGION is 'EU-WEST-1', .* did you mean 'eu-west-1'\\?",
        AWS_REGION="EU-WEST-1",
    ),
    keys(
        "an availability zone",
        "the region in AWS_REGION is 'eu-west-1b', which is an availability zone: set 'eu-west-1'",
        AWS_REGION="eu-west-1b",
    ),
    Case(
        "blanks in a second choice",
        "the region in AWS_DEFAULT_REGION is 'eu west 1', .*",
        {"AWS_DEFAULT_REGION": "eu west 1"},
        has_keys=True,
        has_region=False,
    ),
    Case(
        "blanks in a profile's region",
        "the region in profile 'nightly' is 'eu west 1', .*",
        profile="region = eu west 1",
        has_keys=True,
        has_region=False,
    ),
    Case(
        "a profile that does not exist",
        "AWS_PROFILE names profile 'nihgtly', which does not exist; did you mean 'nightly'\\?",
        {"AWS_PROFILE": "nihgtly"},
        profile="region = x",
    ),
    Case(
        "another profile",
        "AWS_PROFILE names profile 'prod', which does not exist; there are 'nightly', 'one'",
        {"AWS_PROFILE": "prod"},
        "region = x",
        "[profile one]\nregion = x",
    ),
    Case(
        "the older variable",
        "AWS_DEFAULT_PROFILE names profile 'prod', which does not exist; there are no profiles",
        {"AWS_DEFAULT_PROFILE": "prod"},
    ),
    Case(
        "a file that is not there",
        "AWS_PROFILE names profile 'prod', which does not exist; there "
        "are no profiles; there is no file at AWS_CONFIG_FILE '/nowhere/config'",
        {"AWS_PROFILE": "prod", "AWS_CONFIG_FILE": "/nowhere/config"},
    ),
    Case(
        "no credentials file",
        f"{NO_KEYS}; there is no file at AWS_SHARED_CREDENTIALS_FILE '/no'",
        {"AWS_SHARED_CREDENTIALS_FILE": "/no"},
    ),
    Case(
        "a file that cannot be parsed",
        "the AWS configuration file '.*config' cannot be parsed: "
        "correct it, or name another one in AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE",
        config=f"{SECRET}\n",
    ),
    keys(
        "credentials that cannot be parsed",
        "the AWS configuration file '.*text' cannot be .*",
        AWS_SHARED_CREDENTIALS_FILE="{}/text",
    ),
    Case(
        "half a key in a profile",
        "profile 'nightly' has incomplete AWS credentials: aws_secret_access_key is missing",
        profile="aws_access_key_id = AKIAEXAMPLE",
    ),
    Case(
        "the other half in a profile",
        f"{NO_KEYS}; profile 'nightly' lacks 'aws_access_key_id'",
        profile=f"aws_secret_access_key = {SECRET}",
    ),
    *(
        Case(
            name,
            "the credentials of profile 'nightly' have a blank, quotes or another character that "
            "no key has: copy them again",
            profile=f"aws_access_key_id = A\naws_secret_access_key = {secret}",
        )
        for name, secret in {
            "a key in quotes": f'"{SECRET}"',
            "a comment after a key": f"{SECRET} # mine",
        }.items()
    ),
    Case(
        "a section for the other file",
        r"AWS_PROFILE names profile 'prod', which does not exist, but a section \[prod\] in the "
        r"configuration file: write \[profile prod\] there",
        {"AWS_PROFILE": "prod"},
        config="[prod]\nregion = x",
    ),
    Case(
        "a folder for a file",
        f"{NO_KEYS}; there is no file at AWS_CONFIG_FILE '/'",
        {"AWS_CONFIG_FILE": "/"},
    ),
    Case(
        "services that do not exist",
        "profile 'nightly' cannot be used: The profile is configured "
        "to use the services section but the 'corp' services configuration does not exist",
        profile="services = corp",
        has_keys=True,
    ),
    keys(
        "a defaults mode",
        "the AWS configuration cannot be used \\(InvalidDefaultsMode\\); .*",
        AWS_DEFAULTS_MODE="fast",
    ),
    # credential_process
    process(
        "a process that is not there",
        "/nowhere/vault",
        "cannot be run: '/nowhere/vault': No such file or directory",
    ),
    process(
        "a process that fails",
        f"sh -c 'echo {SECRET}; echo {SECRET} >&2; exit 3'",
        "failed, or printed something else than credentials: run its command to see why",
    ),
    process(
        "a process that prints text",
        f"echo {SECRET}",
        "did not print JSON: run its command to see what it prints",
    ),
    process("a process that prints a list", "echo []", "is not a command, or does not print .*"),
    process("a process that prints no key", "echo '{\"Version\": 1}'", "failed, or printed .*"),
    process("a process of another version", "echo '{\"Version\": 2}'", "failed, or printed .*"),
    process("a process with an open quote", "echo 'x", "is not a command, or does not print .*"),
    process("an empty process", "", "is not a command, or does not print .*"),
    # SSO and aws login
    Case("no SSO login", LOGIN, profile=f"sso_session = corp\n{SSO_PROFILE}", config=SSO_SESSION),
    Case(
        "no SSO login, as before",
        LOGIN,
        profile="sso_start_url = https://x.awsapps.com/start\n"
        f"sso_region = eu-west-1\n{SSO_PROFILE}",
    ),
    Case(
        "no SSO session",
        "profile 'nightly' cannot be used: The specified sso-session does not exist: 'corp'",
        profile=f"sso_session = corp\n{SSO_PROFILE}",
    ),
    Case(
        "half an SSO profile",
        f"{NO_KEYS}; profile 'nightly' lacks 'sso_account_id' and 'sso_role_name'",
        profile="sso_session = corp",
        config=SSO_SESSION,
    ),
    Case(
        "a login of the console",
        "profile 'nightly' needs more of botocore: pip install 'botocore\\[crt\\]'",
        profile="login_session = arn:aws:iam::123456789012:user/me",
    ),
    # Roles
    Case(
        "no such source profile",
        "profile 'nightly' cannot be used: The source_profile 'base' "
        "referenced in the profile 'nightly' does not exist",
        profile=f"{ROLE}source_profile = base",
    ),
    Case(
        "no source profile",
        "profile 'nightly' has incomplete AWS credentials: source_profile or "
        "credential_source is missing",
        profile=ROLE,
    ),
    Case(
        "source profiles in a circle",
        "profile 'nightly' cannot be used: Infinite loop .*",
        profile=f"{ROLE}source_profile = b",
        config=f"[profile b]\n{ROLE}source_profile = nightly",
    ),
    Case(
        "an unknown credential source",
        "profile 'nightly' cannot be used: The credential source 'Vault' .* is not valid",
        profile=f"{ROLE}credential_source = Vault",
    ),
    Case(
        "a source without credentials",
        "no credentials for profile 'nightly' from 'Environment'",
        profile=f"{ROLE}credential_source = Environment",
    ),
    Case(
        "a role with MFA",
        "the role of profile 'nightly' asks for an MFA code: use credentials "
        "that a program can renew",
        profile=f"{ROLE}source_profile = b\nmfa_serial = arn:aws:x",
        config=f"[profile b]\naws_access_key_id = A\naws_secret_access_key = {SECRET}",
    ),
    Case(
        "a token file that is not there",
        "AWS_WEB_IDENTITY_TOKEN_FILE '/nowhere/token' cannot be read: No such file or directory",
        {
            "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token",
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
        },
    ),
    Case(
        "a token file without a role",
        "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not: set both, or none",
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token"},
    ),
    Case(
        "a role without a token file",
        f"{NO_KEYS}; AWS_ROLE_ARN is set, but AWS_WEB_IDENTITY_TOKEN_FILE is not",
        {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r"},
    ),
    Case(
        "an empty token file",
        "the role of profile 'default' or AWS_ROLE_ARN cannot be assumed as it is written: .*",
        {
            "AWS_WEB_IDENTITY_TOKEN_FILE": "{}/credentials",
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
        },
    ),
    Case(
        "a profile's token file",
        "the web_identity_token_file '/nowhere' of profile 'nightly' cannot be read: No such .*",
        profile=f"{ROLE}web_identity_token_file = /nowhere",
    ),
    Case(
        "a role that is no ARN",
        "the role of profile 'nightly' or AWS_ROLE_ARN cannot be assumed as it is written: .*",
        profile="role_arn = loader\nsource_profile = b",
        config=f"[profile b]\naws_access_key_id = A\naws_secret_access_key = {SECRET}",
    ),
    # Containers and machines
    Case(
        "a container's address of elsewhere",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI must be an https address or one of this machine, .*",
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/keys"},
    ),
    Case(
        "a container's token file",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE '/nowhere/token' "
        "cannot be read: No such file or directory",
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": REFUSED,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nowhere/token",
        },
    ),
    Case(
        "a machine's address",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT, or its mode, cannot be used: correct or unset it",
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "no url"},
    ),
    Case(
        "a machine without a role",
        NO_KEYS,
        {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": REFUSED},
    ),
    # Endpoints
    keys(
        "no scheme",
        "the endpoint in AWS_ENDPOINT_URL does not begin with http:// or https://: add "
        "the scheme, as in http://host:9324",
        AWS_ENDPOINT_URL="localhost:9324",
    ),
    keys(
        "an underscore",
        "the endpoint in AWS_ENDPOINT_URL has an underscore in its host 'my_sqs', .*",
        AWS_ENDPOINT_URL="http://my_sqs:9324",
    ),
    keys(
        "a blank",
        "the endpoint in AWS_ENDPOINT_URL has a blank in it: remove it",
        AWS_ENDPOINT_URL="http://my sqs:9324",
    ),
    keys(
        "a port in words",
        "the endpoint in AWS_ENDPOINT_URL has a port that is not a number .*",
        AWS_ENDPOINT_URL=f"http://me:{SECRET}@sqs:tcp",
    ),
    keys(
        "a port too high",
        "the endpoint in AWS_ENDPOINT_URL has a port that is not a number .*",
        AWS_ENDPOINT_URL="http://sqs:93240",
    ),
    keys(
        "another scheme",
        "the endpoint in AWS_ENDPOINT_URL_SQS has the scheme 'tcp': use http:// or https://",
        AWS_ENDPOINT_URL_SQS="tcp://sqs:9324",
    ),
    keys("no host", "the endpoint in AWS_ENDPOINT_URL has no host", AWS_ENDPOINT_URL="http://"),
    keys(
        "no host name",
        "the endpoint in AWS_ENDPOINT_URL has the host 'a..b', which is not a host name",
        AWS_ENDPOINT_URL="http://a..b:9324",
    ),
    Case(
        "a profile's endpoint",
        "the endpoint in profile 'nightly' does not begin with http:// .*",
        profile="endpoint_url = localhost",
        has_keys=True,
    ),
    # Certificates and proxies
    keys(
        "no CA bundle",
        "the CA bundle '/nowhere.pem' of AWS_CA_BUNDLE cannot be read: No such file or directory",
        AWS_CA_BUNDLE="/nowhere.pem",
    ),
    keys(
        "a CA bundle of text",
        "the CA bundle '.*text' of AWS_CA_BUNDLE has no certificate in the PEM format",
        AWS_CA_BUNDLE="{}/text",
    ),
    keys(
        "a folder as CA bundle",
        "the CA bundle '.*' of REQUESTS_CA_BUNDLE .*",
        REQUESTS_CA_BUNDLE="{}",
    ),
    Case(
        "a profile's CA bundle",
        "the CA bundle '/nowhere.pem' of profile 'nightly' cannot be .*",
        profile="ca_bundle = /nowhere.pem",
        has_keys=True,
    ),
    keys(
        "a proxy's port",
        "the proxy in HTTPS_PROXY has a port that is not a number .*",
        HTTPS_PROXY=f"http://me:{SECRET}@proxy:abc",
    ),
    keys(
        "a proxy of another kind",
        "the proxy in HTTPS_PROXY has the scheme 'socks5': use .*",
        https_proxy="socks5://proxy:1080",
    ),
    keys(
        "a proxy in quotes",
        "the proxy in HTTPS_PROXY has quotes around it: remove them",
        HTTPS_PROXY=f'"http://me:{SECRET}@proxy:3128"',
    ),
    # queue.url
    url("an ARN", "arn:aws:sqs:eu-west-1:123456789012:logins", f"is an ARN: use {EXAMPLE}"),
    url(
        "a name",
        "logins.fifo",
        "is a name, 'logins.fifo': use what 'aws sqs get-queue-url "
        f"--queue-name logins.fifo' prints, such as {EXAMPLE}",
    ),
    url("no scheme in the URL", URL.removeprefix("https://"), "does not begin with http:// .*"),
    url(
        "a page of the console",
        "https://eu-west-1.console.aws.amazon.com/sqs/v3/home?region=x",
        "is a page of the AWS console: use the URL shown there, .*",
    ),
    url("no queue", "https://sqs.eu-west-1.amazonaws.com/", "names no queue: .*"),
    url("no account", "https://sqs.eu-west-1.amazonaws.com/logins", "must end in a 12-digit .*"),
    url(
        "another service",
        "https://sns.eu-west-1.amazonaws.com/123456789012/logins",
        "has the host 'sns.eu-west-1.amazonaws.com', which is not one of SQS: .*",
    ),
    url(
        "a blank in the URL",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/log ins",
        "has a blank in it: remove it; .*",
    ),
    url(
        "an emulator without endpoint",
        f"http://me:{SECRET}@localhost:9324/000000000000/logins",
        "has the host 'localhost', which is not AWS's, and no endpoint is set: set "
        "AWS_ENDPOINT_URL=http://localhost:9324",
    ),
    url("quotes", f"'{URL}'", "has quotes around it: remove them; .*"),
    url(
        "an ARN of another service",
        "arn:aws:sns:eu-west-1:123456789012:logins",
        "is an ARN, but not that of a queue: .*",
    ),
    Case("no URL", "no queue: set 'queue.url' in the configuration, or ETL_QUEUE__URL", url=" "),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_is_named_in_one_line_without_a_secret(case: Case, tmp_path: Path) -> None:
    """Before anything is received: it counts as a mistake in the settings, exit code 2."""
    environment = case.environment(tmp_path)
    with pytest.raises(SettingsError) as caught:
        open_queue(QueueSettings(url=case.url), environment)
    said = str(caught.value)
    assert re.fullmatch(case.says, said), said
    assert "\n" not in said
    assert SECRET not in said
    assert caught.value.exit_code == 2


def test_a_section_of_the_other_kind_in_the_credentials_file_is_named(tmp_path: Path) -> None:
    """There a profile is written without the word."""
    file = tmp_path / "credentials"
    file.write_text("[profile prod]\nregion = x\n")
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "prod"}
    with pytest.raises(SettingsError, match=r"credentials file: write \[prod\] there"):
        open_queue(QueueSettings(url=URL), environment)


def test_a_key_log_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the credentials, although Python meets it first where botocore looks for them."""
    monkeypatch.setenv("SSLKEYLOGFILE", "/nowhere/keys")
    words = "^SSLKEYLOGFILE '/nowhere/keys' cannot be written: No such file or directory; unset it$"
    with pytest.raises(SettingsError, match=words):
        open_queue(QueueSettings(url=URL), {**KEYS, **REGION})


def test_a_file_that_the_user_may_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Botocore takes it for empty."""
    file = tmp_path / "credentials"
    file.touch()
    # Root may read every file.
    monkeypatch.setattr("etl.aws.session.os.access", lambda path, _: path != file)
    case = Case("", "")
    with pytest.raises(SettingsError, match=f"'{file}' cannot be read by user"):
        open_queue(QueueSettings(url=URL), case.environment(tmp_path))


EXPIRED = {
    "AccessKeyId": "A",
    "SecretAccessKey": SECRET,
    "Token": "T",
    "Expiration": "2020-01-01T00:00:00Z",
}


@pytest.mark.parametrize("body", ["[]", "{}", json.dumps(EXPIRED)])
def test_a_container_that_gives_no_credentials_is_named(body: str) -> None:
    """Or some that have expired."""
    with serve(200, body) as address:
        environment = {**REGION, "AWS_CONTAINER_CREDENTIALS_FULL_URI": address}
        with pytest.raises(SettingsError, match=r"^what answers at AWS_CONTAINER_CREDENTIALS"):
            open_queue(QueueSettings(url=URL), environment)


@pytest.mark.long  # botocore waits between its tries
def test_a_container_whose_role_cannot_be_asked_is_named() -> None:
    """The credentials of an ECS task or an EKS pod."""
    environment = {**REGION, "AWS_CONTAINER_CREDENTIALS_FULL_URI": REFUSED}
    with pytest.raises(SettingsError, match=r"^the credentials of this container's role cannot be"):
        open_queue(QueueSettings(url=URL), environment)
