"""Regions: what a queue's URL says about its own, and whether a name can be one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from etl.errors import SettingsError, may_be_secret, nearest

# The domains of AWS's partitions, from the endpoint data of botocore.
_DOMAINS = "|".join(
    map(
        re.escape,
        (
            "amazonaws.com",
            "amazonaws.com.cn",
            "amazonaws.eu",
            "api.aws",
            "api.amazonwebservices.com.cn",
            "api.amazonwebservices.eu",
            "c2s.ic.gov",
            "sc2s.sgov.gov",
            "csp.hci.ic.gov",
            "cloud.adc-e.uk",
        ),
    )
)
_AWS_HOST = re.compile(rf"(?:.+\.)?(?:{_DOMAINS})")
# sqs.REGION and sqs-fips.REGION, also behind a VPC endpoint; REGION.queue is the older form.
_SQS_HOST = re.compile(
    rf"(?:vpce-[a-z0-9-]+\.)?sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?(?:{_DOMAINS})"
    rf"|(?P<older>[a-z0-9-]+)\.queue\.(?:{_DOMAINS})"
)
_OWN_HOST = re.compile(r"^vpce-|^sqs-fips\.|\.api\.(?:aws|amazonwebservices)\b")
_OLDEST_HOST = "queue.amazonaws.com"
_OLDEST_REGION = "us-east-1"
# NAME.ID.REGION.rds.DOMAIN; in China NAME.ID.rds.REGION.DOMAIN. A proxy's ID begins with proxy-.
_DATABASE_HOST = re.compile(
    rf"[a-z0-9-]+\.(?P<id>[a-z0-9-]+)"
    rf"\.(?:(?P<region>[a-z0-9-]+)\.rds|rds\.(?P<in_china>cn-[a-z0-9-]+))\.(?:{_DOMAINS})"
)
_SECRET_ARN = re.compile(r"arn:[\w-]+:secretsmanager:(?P<region>[a-z0-9-]+):")
_KEY_CHARACTERS = 40  # of a secret access key
_LABEL = re.compile(r"(?![0-9]+\Z)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)")
_ZONE = re.compile(r"(?P<region>[a-z]+(?:-[a-z]+)+-\d+)[a-z]")


def is_aws_host(host: str) -> bool:
    """Whether a host belongs to AWS."""
    return _AWS_HOST.fullmatch(host.lower().rstrip(".")) is not None


def region_of_queue(url: str) -> str | None:
    """The region that is in the URL of a queue; None if its host is not one of SQS in AWS."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == _OLDEST_HOST:
        return _OLDEST_REGION
    match = _SQS_HOST.fullmatch(host)
    return (match["region"] or match["older"]) if match else None


def own_endpoint(url: str) -> str | None:
    """The endpoint that the URL of a queue chooses; None if it is the usual one of its region.

    botocore takes the region's usual endpoint whatever host the URL has. Whoever writes the host of
    a VPC, FIPS or dual-stack endpoint wants the calls to go there.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    is_own = _SQS_HOST.fullmatch(host) and _OWN_HOST.search(host)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if is_own else None


def shown_name(name: str) -> str:
    """The repr of a name, unless a secret may have been pasted in its place."""
    return "(not shown)" if len(name) >= _KEY_CHARACTERS or may_be_secret(name) else repr(name)


def region_of_secret(secret_id: str) -> str | None:
    """The region that is in the ARN of a secret; None if it is a name."""
    match = _SECRET_ARN.match(secret_id)
    return match["region"] if match else None


def region_of_database(host: str) -> str | None:
    """The region that is in the name of a database's endpoint; None if it is not one of RDS."""
    match = _DATABASE_HOST.fullmatch(host.lower())
    return (match["region"] or match["in_china"]) if match else None


def has_rds_certificate(host: str) -> bool:
    """Whether a host has a certificate of RDS's own authorities; RDS Proxy has public ones."""
    match = _DATABASE_HOST.fullmatch(host.lower())
    return match is not None and not match["id"].startswith("proxy-")


def check_region(region: str, source: str, known: Callable[[], Sequence[str]]) -> None:
    """Refuse a name that cannot be a region. An emulator may have its own names.

    :param source: the variable or profile that it comes from
    :param known: returns the regions of AWS
    :raises SettingsError: it has a blank or capitals, or is an availability zone
    """
    zone = _ZONE.fullmatch(region)
    if zone:
        raise SettingsError(
            f"the region in {source} is {region!r}, which is an availability zone: set "
            f"{zone['region']!r}"
        )
    has_capitals = region != region.lower() and region.lower() in known()
    if has_capitals or not _LABEL.fullmatch(region):
        raise SettingsError(
            f"the region in {source} is {shown_name(region)}, which is not the name of a region"
            f"{nearest_region(region, known())}"
        )


def nearest_region(region: str, known: Sequence[str]) -> str:
    """Words that suggest a region of AWS for one that is not among them."""
    name = re.sub(r"[\s_]+", "-", region.strip().lower())
    meant = nearest(name, known)
    return f"; did you mean {meant!r}?" if meant and meant != region else ""
