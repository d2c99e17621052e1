"""What one check of ``etl doctor`` found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from etl.errors import ConfigurationError, EtlError

Status = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True)
class Result:
    """One check: its name, how it ended, and what to do about it.

    A check that finds several problems gives a result for each. No text in it holds a personal
    value or a secret.
    """

    check: str  # the area and the fact, such as "queue.visibility"; the same in every version
    status: Status  # "unknown": it could not be found out
    found: str  # one line
    advice: str = ""  # what to do, with the command or the setting; empty if all is well


def result_of(check: str, status: Status, text: str) -> Result:
    """Make a result of an error's text, which says what is wrong, a semicolon, and the way out."""
    found, _, advice = text.partition("; ")
    return Result(check, status, found, advice)


def asked(check: str, ask: Callable[[], Result]) -> Result:
    """Make one check; an error in it is its result, so no check hides the next one.

    A configuration that every run refuses has failed the check. After any other error it is
    *unknown*.

    :param check: the name of the result of an error
    """
    try:
        return ask()
    except EtlError as error:
        status: Status = "fail" if isinstance(error, ConfigurationError) else "unknown"
        return result_of(check, status, str(error))
    except OSError as error:
        return Result(check, "unknown", error.strerror or type(error).__name__)
    except Exception as error:  # noqa: BLE001  (whatever it is, the other checks go on)
        # The text of another library's error may hold a value.
        return Result(check, "unknown", f"an error of type {type(error).__name__!r}")


def asked_each(check: str, ask: Callable[[], Iterable[Result]]) -> list[Result]:
    """Make one check as :func:`asked` does, which may have several results."""
    found: list[Result] = []

    def last() -> Result:
        found.extend(ask())
        return found.pop()

    error_or_last = asked(check, last)
    return [*found, error_or_last]
