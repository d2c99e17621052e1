"""Makes the calls to SQS, and turns what goes wrong into a refusal or an outage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etl.errors import QueueRefused, QueueUnavailable

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from etl.aws.connections import Destination, Fault

# How AWS begins its text when the clocks differ by five minutes or more. The codes are
# InvalidSignatureException and SignatureDoesNotMatch, the same as for a wrong key. This one passes
# once the clock is set, or at once if it was the process that had been suspended.
CLOCK_SKEW = ("Signature expired", "Signature not yet current")


class Calls:
    """The calls of one client to one service. Safe to use from several threads."""

    def __init__(self, client: Any, to: Destination | None = None) -> None:
        """Prepare to make calls.

        :param to: where they go, and as whom; None if only the client knows
        """
        self._client = client
        self._to = to
        # What has worked once may work again, whatever is wrong with it now.
        self._has_answered = False

    def __call__(self, name: str, /, **parameters: Any) -> Any:
        """Make a call; raise what its failure means, without quoting what was sent.

        :param name: of the client's method
        :raises QueueRefused: SQS refuses, or cannot be reached by this configuration
        :raises QueueUnavailable: SQS does not answer for now
        """
        try:
            answer = getattr(self._client, name)(**parameters)
        except Exception as error:  # noqa: BLE001 (not all that botocore raises is its own)
            raise self._fault(error, name) from None
        self._has_answered = True
        return answer

    def _fault(self, error: Exception, name: str) -> QueueRefused | QueueUnavailable:
        from botocore.exceptions import ClientError

        from etl.aws.faults import explain

        if isinstance(error, ClientError):
            return self._answered(error, name)
        return self._failed(explain(error, name, self._destination))

    @property
    def _destination(self) -> Destination:
        from etl.aws.connections import Destination

        meta = self._client.meta
        return self._to or Destination("SQS", meta.endpoint_url, meta.region_name)

    def _answered(self, error: ClientError, name: str) -> QueueRefused | QueueUnavailable:
        """What an answer other than success means."""
        from etl.aws import answers
        from etl.aws.connections import foreign_answer
        from etl.aws.faults import credentials_fault

        if error.operation_name not in self._client.meta.method_to_api_mapping.values():
            return self._failed(credentials_fault(error, self._destination.profile))
        details = error.response.get("Error", {})
        code = str(details.get("Code", "unknown"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if str(details.get("Message", "")).startswith(CLOCK_SKEW):
            return QueueUnavailable(
                f"SQS rejected the request's signature time (HTTP {status}, {name!r}): correct "
                "this machine's clock; if the process was suspended, the retry will succeed"
            )
        # The text of the error can repeat what was sent; its code cannot.
        said = f"SQS answered {code!r} (HTTP {status}) to {name!r}"
        if answers.is_foreign(code):
            return self._failed(foreign_answer(name, self._destination, said))
        self._has_answered = True
        words = answers.refusal(code, error.operation_name, of=self._destination.credentials)
        if words is None:
            return QueueUnavailable(said)
        return QueueRefused(f"{said}: {words}{self._where(answers.short_code(code))}")

    def _where(self, code: str) -> str:
        if code not in ("NonExistentQueue", "QueueDoesNotExist"):
            return ""
        from etl.aws.connections import shown

        return f" (asked at {shown(self._destination.url)}, region {self._destination.region!r})"

    def _failed(self, fault: Fault) -> QueueRefused | QueueUnavailable:
        from etl.aws.connections import Kind

        is_final = fault.kind is Kind.REFUSAL or (
            fault.kind is Kind.FINAL_AT_START and not self._has_answered
        )
        return QueueRefused(fault.text) if is_final else QueueUnavailable(fault.text)
