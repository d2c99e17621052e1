"""Questions to SQS that change nothing, and what came of each.

They go through boto3: they are few, and none of them is one of the frequent calls of a run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etl.aws import answers
from etl.config import QueueSettings
from etl.errors import QueueRefused
from etl.sqs.client import ANSWER_SECONDS, CONNECT_SECONDS, queue_url
from etl.sqs.redrive import RedrivePolicy, read_policy

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from etl.aws.connections import Destination

# A program that is asked what is the matter should soon say it.
ATTEMPTS = 2

# A code is a word. Whatever else answers in its place could be a text that quotes what was sent.
_CODE = re.compile(r"[A-Za-z0-9_.:/#-]{1,120}")
_PASSWORD = re.compile(r"//[^/@]*@")


@dataclass(frozen=True)
class Answer:
    """What came of a question: what was answered, or why not."""

    members: Mapping[str, Any] = field(default_factory=dict, repr=False)  # empty unless it was done
    code: str = ""  # of the error that was answered, in one spelling; empty without one
    problem: str = ""  # what went wrong, in one line; empty if nothing did
    advice: str = ""  # what to do about it, if waiting does not help

    @property
    def is_denied(self) -> bool:
        """Whether the credentials lack the right to ask this."""
        return answers.is_missing_right(self.code)


@dataclass(frozen=True)
class QueueAttributes:
    """What GetQueueAttributes has answered about a queue."""

    url: str
    values: Mapping[str, Any] = field(repr=False)

    def number(self, name: str) -> int:
        """Read an attribute that is a number.

        :raises QueueRefused: there is none
        """
        try:
            return int(self.values[name])
        except (KeyError, TypeError, ValueError):
            raise QueueRefused(f"what answers gives no {name}") from None

    @property
    def arn(self) -> str:
        """The ARN, or an empty text."""
        return str(self.values.get("QueueArn", ""))

    @property
    def name(self) -> str:
        """The name, which a URL always ends with."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def is_fifo(self) -> bool:
        """Whether it is a FIFO queue, whose name always ends like this."""
        return self.name.endswith(".fifo")

    @property
    def redrive(self) -> RedrivePolicy | None:
        """The redrive policy; None if there is none, or it cannot be read."""
        text = self.values.get("RedrivePolicy")
        return read_policy(text if isinstance(text, str) else None)

    @property
    def shown_url(self) -> str:
        """The URL without a password, quoted for a shell."""
        return shlex.quote(_PASSWORD.sub("//", self.url))

    def set_command(self, **attributes: int | str) -> str:
        """The command that sets attributes of this queue."""
        values = ",".join(f"{name}={value}" for name, value in attributes.items())
        return f"aws sqs set-queue-attributes --queue-url {self.shown_url} --attributes {values}"


class Questions:
    """Asks SQS about one queue. When nothing answers, it does not ask again."""

    def __init__(self, client: Any, to: Destination, url: str) -> None:
        """Ask through a client of boto3.

        :param to: where its calls go, and as whom
        :param url: of the queue
        """
        self._client = client
        self._silence: Answer | None = None
        self.to = to
        self.url = url

    def ask(self, name: str, **parameters: Any) -> Answer:
        """Make a call, and return what came of it. Raises nothing.

        :param name: of the client's method
        """
        if self._silence is None:
            from botocore.exceptions import ClientError

            try:
                return Answer(getattr(self._client, name)(**parameters))
            except ClientError as error:
                return self._answered(error, name)
            except Exception as error:  # noqa: BLE001 (not all that botocore raises is its own)
                from etl.aws.faults import explain

                self._silence = _of_text(explain(error, name, self.to).text)
        return self._silence

    def refusal(self, code: str, operation: str, call: str) -> Answer:
        """What an error code means that was answered, also in an entry of a batch.

        :param operation: of the API, such as ``DeleteMessageBatch``
        :param call: what was asked, in words that follow "to"
        """
        shown = repr(code) if _CODE.fullmatch(code) else "an error without a code"
        advice = answers.refusal(code, operation, of=self.to.credentials)
        problem = f"SQS answered {shown} to {call}"
        return Answer(code=answers.short_code(code), problem=problem, advice=advice or "")

    @cached_property
    def attributes(self) -> Answer:
        """Everything that SQS says about the queue, asked for once."""
        return self.ask("get_queue_attributes", QueueUrl=self.url, AttributeNames=["All"])

    def _answered(self, error: ClientError, name: str) -> Answer:
        from etl.aws.connections import foreign_answer
        from etl.aws.faults import credentials_fault
        from etl.sqs.calls import CLOCK_SKEW

        if error.operation_name not in self._client.meta.method_to_api_mapping.values():
            # A service that gives credentials has answered, and not SQS.
            self._silence = _of_text(credentials_fault(error, self.to.profile).text)
            return self._silence
        details = error.response.get("Error", {})
        code = str(details.get("Code", ""))
        answer = self.refusal(code, error.operation_name, repr(name))
        if answers.is_foreign(code):
            return _of_text(foreign_answer(name, self.to, answer.problem).text)
        if str(details.get("Message", "")).startswith(CLOCK_SKEW):
            advice = "correct this machine's clock: SQS rejects the time of the signature"
            return Answer(code=answer.code, problem=answer.problem, advice=advice)
        return answer


def _of_text(text: str) -> Answer:
    """An answer of an error's text, which says what is wrong, a semicolon, and the way out."""
    problem, _, advice = text.partition("; ")
    return Answer(problem=problem, advice=advice)


def open_questions(settings: QueueSettings, environment: Mapping[str, str]) -> Questions:
    """Get ready to ask about the queue of the settings. Gets the credentials, and asks nothing yet.

    :param environment: has the AWS variables
    :raises SettingsError: there is no queue URL, or it or the AWS configuration cannot be used
    """
    from botocore.config import Config

    from etl.aws.access import destination, find_access, open_client

    url = queue_url(settings)
    access = find_access("sqs", environment, queue_url=url)
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        retries={"total_max_attempts": ATTEMPTS},
    )
    client = open_client(access, config)
    return Questions(client, destination(access, client, "SQS"), url)
