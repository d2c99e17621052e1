"""Addresses: whether an endpoint or the URL of a queue can be one, and what of it may be shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from etl.aws.connections import shown
from etl.aws.regions import is_aws_host, region_of_queue
from etl.errors import SettingsError

_ARN = re.compile(r"arn:[\w-]+:sqs:(?P<region>[\w-]*):(?P<account>\d*):(?P<name>\S+)")
_NAME = re.compile(r"[\w-]{1,80}(?:\.fifo)?", re.ASCII)
_CONSOLE = re.compile(r"console\.(?:aws|amazonaws)|\.aws\.amazon\.com$")
_QUOTES = tuple("'\"<`")
_PATH_IN_AWS = re.compile(r"/\d{12}/[^/]+/?")
_EXAMPLE = "https://sqs.eu-west-1.amazonaws.com/123456789012/logins"


def check_endpoint(url: str, source: str) -> None:
    """Refuse an endpoint that no call could reach.

    :param source: the variable or profile that it comes from
    :raises SettingsError: it has no scheme, or a blank, or its host or port cannot be one
    """
    problem = _problem(url)
    if problem:
        raise SettingsError(f"the endpoint in {source} {problem}")


def check_proxy(url: str, scheme: str) -> None:
    """Refuse a proxy that botocore cannot use.

    :param scheme: of the URLs that it is for
    :raises SettingsError: its host or port cannot be one, or it is not an HTTP proxy
    """
    problem = _problem(url if "://" in url else f"http://{url.removeprefix('//')}")
    if problem:
        raise SettingsError(f"the proxy in {scheme.upper()}_PROXY {problem}")


def check_queue_url(url: str, endpoint_url: str | None) -> None:
    """Refuse a URL that cannot be a queue's.

    :param endpoint_url: the configured one, if there is one
    :raises SettingsError: it is something else, or there is no endpoint for its host
    """
    problem = _queue_problem(url, endpoint_url)
    if problem:
        raise SettingsError(f"the queue's URL ('queue.url') {problem}")


def _problem(url: str) -> str | None:
    """What is wrong with a URL, in words that do not quote it; None if it is a URL."""
    if url[:1] in _QUOTES:
        return "has quotes around it: remove them"
    if re.search(r"\s", url):
        return "has a blank in it: remove it"
    if "://" not in url:
        return "does not begin with http:// or https://: add the scheme, as in http://host:9324"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "has a port that is not a number up to 65535, or brackets that do not match"
    if parts.scheme not in ("http", "https"):
        return f"has the scheme {parts.scheme!r}: use http:// or https://"
    return _host_problem(parts)


def _host_problem(parts: SplitResult) -> str | None:
    host = parts.hostname
    if not host:
        return "has no host"
    if "_" in host:
        return (
            f"has an underscore in its host {host!r}, which host names cannot have: give the host "
            "a name without one, such as a network alias"
        )
    from botocore.utils import is_valid_uri

    if not host.isascii() or not is_valid_uri(f"http://{parts.netloc.split('@')[-1]}"):
        return f"has the host {host!r}, which is not a host name"
    return None


def _queue_problem(url: str, endpoint_url: str | None) -> str | None:
    arn = _ARN.fullmatch(url)
    if arn:
        domain = "amazonaws.com.cn" if arn["region"].startswith("cn-") else "amazonaws.com"
        address = f"https://sqs.{arn['region']}.{domain}/{arn['account']}/{arn['name']}"
        return f"is an ARN: use {address!r}"
    if url.startswith("arn:"):
        return f"is an ARN, but not that of a queue: it looks like {_EXAMPLE!r}"
    if _NAME.fullmatch(url):
        return (
            f"is a name, {url!r}: use what 'aws sqs get-queue-url --queue-name {url}' prints, such "
            f"as {_EXAMPLE!r}"
        )
    # An underscore in this host does not matter: calls go to the endpoint, not here.
    problem = _problem(url) if "_" not in url.partition("://")[2].partition("/")[0] else None
    if problem:
        return f"{problem}; it looks like {_EXAMPLE!r}"
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _CONSOLE.search(host):
        return f"is a page of the AWS console: use the URL shown there, such as {_EXAMPLE!r}"
    if parts.query or parts.fragment or not parts.path.strip("/"):
        return f"names no queue: it ends in its account and name, as in {_EXAMPLE!r}"
    if is_aws_host(host):
        return _aws_problem(host, parts.path, url)
    if endpoint_url is None:
        return (
            f"has the host {host!r}, which is not AWS's, and no endpoint is set: set "
            f"AWS_ENDPOINT_URL={shown(url)}"
        )
    return None


def _aws_problem(host: str, path: str, url: str) -> str | None:
    if region_of_queue(url) is None:
        return f"has the host {host!r}, which is not one of SQS: it looks like {_EXAMPLE!r}"
    if not _PATH_IN_AWS.fullmatch(path):
        return f"must end in a 12-digit account and the queue's name, as in {_EXAMPLE!r}"
    return None
