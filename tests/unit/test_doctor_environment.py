"""``etl doctor`` about this process and about AWS: each check as it should be, and not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from etl.aws.access import find_access
from etl.config import Settings, load
from etl.doctor import aws, environment
from etl.doctor.environment import MIB
from etl.doctor.result import Result, asked, asked_each
from etl.errors import DatabaseUnavailable, KeyringError
from tests.unit.aws_server import KEYS, SECRET, URL, serve
from tests.unit.builders import ROOT

NOW = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)


def settings(**changes: Any) -> Settings:
    """Settings; ``section__key=value`` changes one of them."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return load(ROOT / "config.yaml", {"ETL_QUEUE__URL": URL}, dotted)


def test_columns_that_no_run_could_fill_fail() -> None:
    """A run says so before it receives anything."""
    config = settings()
    assert environment.columns(config).status == "ok"
    masked = config.table.columns[2]
    narrow = config.table.model_copy(
        update={"columns": (masked.model_copy(update={"max_length": 10}),)}
    )
    config = config.model_copy(update={"table": narrow})
    (result,) = (r for r in environment.results(config, {}) if r.check == "environment.columns")
    assert (result.status, "set max_length to at least" in result.advice) == ("fail", True)


@pytest.mark.parametrize(("version", "status"), [((3, 11, 2), "ok"), ((3, 10, 14), "fail")])
def test_an_old_python_fails(version: tuple[int, ...], status: str) -> None:
    """The package asks for 3.11."""
    assert environment.python(version).status == status


@pytest.mark.parametrize(
    ("installed", "status", "found"),
    [
        ({"pandas": "3.1.1"}, "ok", "1 libraries as in requirements.txt"),
        ({"pandas": "3.0.0"}, "warn", "pandas 3.0.0, not ==3.1.1 as in requirements.txt"),
        ({}, "warn", "pandas is missing, not ==3.1.1 as in requirements.txt"),
        ({"pandas": "3.1.1", "pyarrow": "26.0"}, "warn", "pyarrow is installed"),
    ],
)
def test_other_libraries_than_the_pinned_ones_are_named(
    installed: dict[str, str], status: str, found: str
) -> None:
    """Also pyarrow, with which pandas works differently."""
    wanted = {"pandas": SpecifierSet("==3.1.1")}
    result = environment.libraries("requirements.txt", wanted, installed)
    assert result.status == status
    assert result.found.startswith(found)


def test_the_libraries_of_this_environment_are_those_that_are_pinned() -> None:
    """All of them are compared."""
    result = environment.installed_libraries()
    assert (result.status, result.advice) == ("ok", "")
    pins = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert result.found == f"{len(pins)} libraries as in requirements.txt"


@pytest.mark.parametrize(
    ("workers", "limit_mib", "status"),
    [(1, 512, "ok"), (1, 200, "warn"), (1, 100, "fail"), (2, 512, "warn"), (4, 480, "fail")],
)
def test_memory_is_compared_with_what_the_workers_use(
    workers: int, limit_mib: int, status: str
) -> None:
    """Too little for full batches is a warning; too little to start a worker is a failure."""
    config = settings(run__workers=workers)
    assert environment.memory(config, limit_mib * MIB).status == status


def test_smaller_batches_need_less_memory() -> None:
    """The advice to lower them helps."""
    assert environment.memory(settings(), 200 * MIB).status == "warn"
    small = settings(batch__rows=1000, batch__bytes=8 * MIB)
    assert environment.memory(small, 200 * MIB).status == "ok"


def test_memory_without_a_known_limit_is_unknown() -> None:
    """For instance on a system without /proc."""
    assert environment.memory(settings(), None).status == "unknown"


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write files below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:       16384 kB\nMemFree:  1 kB\n"}
CGROUP_1 = {"proc/self/cgroup": "5:cpu:/a\n4:memory:/docker/x\n"}


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        (MEMINFO, 16 * MIB),
        # Version 2: the limit of a cgroup around ours counts too, and "max" is none.
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "4096\n",
          "sys/fs/cgroup/a/b/memory.max": "max\n"}, 4096),
        # In a container the path is "/", or that of the host.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "8192\n"}, 8192),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/memory.max": "8192\n"}, 8192),
        # Version 1.
        ({**CGROUP_1, "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "5\n"}, 5),
        ({**CGROUP_1, **MEMINFO,
          "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 16 * MIB),
    ],
)  # fmt: skip
def test_the_lowest_memory_limit_is_found(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    """Of both versions of cgroups, and of the machine."""
    assert environment.memory_limit(tree(tmp_path, files), {}) == limit


def test_the_memory_of_a_lambda_is_its_limit(tmp_path: Path) -> None:
    """The variable has it in MiB."""
    variables = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "8"}
    assert environment.memory_limit(tree(tmp_path, MEMINFO), variables) == 8 * MIB


@pytest.mark.parametrize(
    ("limit", "receivers", "status"), [(1024, 16, "ok"), (-1, 16, "ok"), (64, 16, "warn"),
                                       (96, 16, "ok"), (96, 32, "warn")],
)  # fmt: skip
def test_open_files_are_compared_with_the_connections(
    limit: int, receivers: int, status: str
) -> None:
    """A limit below 0 is none."""
    config = settings(queue__max_receivers=receivers)
    assert environment.open_files(config, limit).status == status


def test_region_and_credentials_are_shown_and_no_key() -> None:
    """The words that the errors of the program use."""
    first = next(aws.results(settings(), KEYS))
    assert first == Result(
        "environment.aws",
        "ok",
        "region 'eu-west-1'; the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )


def test_what_may_be_a_key_in_place_of_a_region_is_not_shown() -> None:
    """A region of an emulator may have any name."""
    keys = {**KEYS, "AWS_REGION": "k" * 40, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    first = next(aws.results(settings(queue__url="http://127.0.0.1:1/1/q"), keys))
    assert first.found.startswith("region (not shown); the credentials")


def test_a_wrong_aws_configuration_fails_and_its_identity_is_unknown() -> None:
    """The error's way out is the advice."""
    half = {name: value for name, value in KEYS.items() if name != "AWS_SECRET_ACCESS_KEY"}
    first, second = aws.results(settings(), half)
    assert (first.check, first.status) == ("environment.aws", "fail")
    assert first.found.startswith("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not")
    assert (second.check, second.status) == ("environment.identity", "unknown")


def identity(endpoint: str) -> Result:
    """Ask this STS."""
    access = find_access("sqs", {**KEYS, "AWS_ENDPOINT_URL_STS": endpoint}, queue_url=URL)
    return aws.identity(access)


IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:role/etl</Arn></GetCallerIdentityResult>
</GetCallerIdentityResponse>"""
REFUSAL = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>
<Code>{}</Code><Message>about AKIAEXAMPLE</Message></Error></ErrorResponse>"""


@pytest.mark.parametrize(
    ("status_code", "body", "status", "found"),
    [
        (200, IDENTITY, "ok", "arn:aws:iam::123456789012:role/etl"),
        (403, REFUSAL.format("InvalidClientTokenId"), "fail",
         "STS answered 'InvalidClientTokenId' to 'GetCallerIdentity'"),
        (403, REFUSAL.format("AccessDenied"), "unknown",
         "STS answered 'AccessDenied' to 'GetCallerIdentity'"),
        (200, "<html>", "unknown", "no answer from STS (ResponseParserError)"),
    ],
)  # fmt: skip
def test_whose_the_credentials_are(status_code: int, body: str, status: str, found: str) -> None:
    """Only an answer that no call would get past is a failure."""
    with serve(status_code, body) as endpoint:
        result = identity(endpoint)
    assert (result.status, result.found) == (status, found)
    assert bool(result.advice) == (status == "fail")


def test_an_sts_that_cannot_be_reached_is_unknown() -> None:
    """A private subnet may have no way to it, and a run needs none."""
    with serve(200, "") as endpoint:
        pass
    assert identity(endpoint).status == "unknown"


def test_the_sts_of_aws_is_not_asked_about_an_emulator() -> None:
    """The keys of an emulator mean nothing there."""
    keys = {**KEYS, "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"}
    access = find_access("sqs", keys, queue_url="http://127.0.0.1:1/1/q")
    assert aws.identity(access).found == "SQS is not at AWS here, so STS is not asked"


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [(0, "ok", "agree"), (29, "ok", "agree"), (-29, "ok", "agree"),
     (91, "warn", "this clock is 90 s behind that of SQS"),
     (-90, "warn", "this clock is 90 s ahead of that of SQS")],
)  # fmt: skip
def test_a_clock_that_differs_is_a_warning(seconds: int, status: str, words: str) -> None:
    """The time between question and answer, here a second, counts for no difference."""
    theirs = NOW + dt.timedelta(seconds=seconds)
    later = NOW + dt.timedelta(seconds=1)
    result = aws.clock_difference("environment.clock", "SQS", theirs, NOW, later)
    assert result.status == status
    assert words in result.found


def attributes(members: dict[str, Any], problem: str = "", advice: str = "") -> Any:
    """What asks SQS, with its one answer."""
    answer = SimpleNamespace(members=members, problem=problem, advice=advice)
    return SimpleNamespace(attributes=answer)


def test_the_clock_of_sqs_is_that_of_its_header() -> None:
    """A year ago is too long ago."""
    headers = {"date": format_datetime(dt.datetime.now(dt.UTC) - dt.timedelta(days=365))}
    asked_one = attributes({"ResponseMetadata": {"HTTPHeaders": headers}})
    assert aws.clock(asked_one).found.startswith("this clock is 31,53")


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}])
def test_without_a_date_the_clock_is_unknown(headers: dict[str, str]) -> None:
    """The embedded SQS sends none."""
    asked_one = attributes({"ResponseMetadata": {"HTTPHeaders": headers}})
    assert aws.clock(asked_one).status == "unknown"


def test_a_signature_that_is_refused_for_its_time_fails_the_clock() -> None:
    """AWS says so once the clocks differ by five minutes."""
    advice = "correct this machine's clock: SQS rejects the time of the signature"
    assert aws.clock(attributes({}, "SQS answered 'X'", advice)).status == "fail"
    assert aws.clock(attributes({}, "no answer from SQS")).status == "unknown"


def raising(error: Exception) -> Callable[[], Any]:
    """A check that cannot be made."""

    def ask() -> Iterator[Result]:
        yield Result("a.b", "ok", "before")
        raise error

    return lambda: list(ask())


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (KeyringError("no keyring: set one; make one"),
         Result("a.b", "fail", "no keyring: set one", "make one")),
        (DatabaseUnavailable("no answer"), Result("a.b", "unknown", "no answer")),
        (PermissionError(13, "Permission denied", SECRET),
         Result("a.b", "unknown", "Permission denied")),
        (ValueError(SECRET), Result("a.b", "unknown", "an error of type 'ValueError'")),
    ],
)  # fmt: skip
def test_an_error_is_the_result_of_its_check(error: Exception, result: Result) -> None:
    """No other library's text is repeated, which may hold a value."""
    assert asked("a.b", raising(error)) == result
    assert asked_each("a.b", raising(error)) == [result]


def test_a_check_may_have_several_results() -> None:
    """Each of them is kept, in order."""
    results = [Result("a.b", "fail", str(number)) for number in range(3)]
    assert asked_each("a.b", lambda: results) == results
