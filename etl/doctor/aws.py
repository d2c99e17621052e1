"""Checks of the way to AWS: region, credentials and whose they are, and SQS's clock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import ClientError

from etl.aws import answers
from etl.aws.access import Access, find_access
from etl.aws.regions import is_aws_host, shown_name
from etl.config import Settings
from etl.doctor.questions import Questions
from etl.doctor.result import Result, Status, asked, result_of
from etl.errors import SettingsError

# A private subnet often has no way to STS, which a run does not need.
IDENTITY_SECONDS = 3
CLOCK_SECONDS = 30.0  # the header Date has whole seconds
CLOCK_ADVICE = "let a time server set this machine's clock; see: timedatectl"


def results(settings: Settings, environment: Mapping[str, str]) -> Iterator[Result]:
    """Make the checks of the configuration of AWS, and ask STS whose credentials these are."""
    url = (settings.queue.url or "").strip() or None
    try:
        access = find_access("sqs", environment, queue_url=url)
    except SettingsError as error:
        yield result_of("environment.aws", "fail", str(error))
        yield Result("environment.identity", "unknown", "the AWS configuration cannot be used")
        return
    found = f"region {shown_name(access.region)}; the credentials{access.credentials}"
    yield Result("environment.aws", "ok", found)
    yield asked("environment.identity", lambda: identity(access))


def identity(access: Access) -> Result:
    """As whom AWS knows the credentials. The question needs no permission."""
    check = "environment.identity"
    host = urlsplit(access.endpoint_url or "").hostname
    if host and not is_aws_host(host) and access.session.endpoint("sts") is None:
        return Result(check, "unknown", "SQS is not at AWS here, so STS is not asked")
    limits = Config(
        connect_timeout=IDENTITY_SECONDS,
        read_timeout=IDENTITY_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    client = access.session.create_client("sts", region_name=access.region, config=limits)
    try:
        return Result(check, "ok", str(client.get_caller_identity()["Arn"]))
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        said = f"STS answered {code!r} to 'GetCallerIdentity'"
        if not answers.refuses_credentials(code):
            return Result(check, "unknown", said)
        advice = answers.refusal(code, error.operation_name, "sts", access.credentials) or ""
        return Result(check, "fail", said, advice)
    except Exception as error:  # noqa: BLE001 (not all that botocore raises is its own)
        return Result(check, "unknown", f"no answer from STS ({type(error).__name__})")
    finally:
        client.close()


def clock(sqs: Questions) -> Result:
    """How far this machine's clock is from that of SQS, by the header Date of an answer."""
    check = "environment.clock"
    asked_at = dt.datetime.now(dt.UTC)
    answer = sqs.attributes
    answered_at = dt.datetime.now(dt.UTC)
    if not answer.members:
        # AWS refuses a request whose time is five minutes off.
        status: Status = "fail" if "clock" in answer.advice else "unknown"
        return Result(check, status, answer.problem, answer.advice)
    headers = answer.members.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        theirs = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return Result(check, "unknown", "the answers of SQS have no Date")
    return clock_difference(check, "SQS", theirs, asked_at, answered_at)


def clock_difference(
    check: str, whose: str, theirs: dt.datetime, asked_at: dt.datetime, answered_at: dt.datetime
) -> Result:
    """Compare a clock with this machine's.

    :param theirs: what it showed at some time between the question and the answer
    """
    # What the time in between may explain is no difference.
    behind = max((theirs - answered_at).total_seconds(), 0.0)
    ahead = max((asked_at - theirs).total_seconds(), 0.0)
    seconds, word = (behind, "behind") if behind else (ahead, "ahead of")
    if seconds <= CLOCK_SECONDS:
        return Result(check, "ok", f"this clock and that of {whose} agree to {CLOCK_SECONDS:g} s")
    found = f"this clock is {seconds:,.0f} s {word} that of {whose}"
    return Result(check, "warn", found, CLOCK_ADVICE)
