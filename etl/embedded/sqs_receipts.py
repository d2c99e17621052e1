"""Receipt handles: which receive of which message, in a form that a client cannot make up."""

from __future__ import annotations

import base64
import struct
import zlib

from etl.embedded.sqs_refusals import Refusal

PREFIX = "AQEB"

_CONTENT = struct.Struct(">QQI")


def make_handle(queue_tag: int, number: int, receive: int) -> str:
    """Return the handle for one receive of the message with this *number*."""
    content = _CONTENT.pack(queue_tag, number, receive)
    return PREFIX + base64.urlsafe_b64encode(content + _checksum(content)).decode()


def read_handle(handle: str, queue_tag: int) -> tuple[int, int]:
    """Return the number of the message and the receive that *handle* was made for.

    :raises Refusal: ReceiptHandleIsInvalid, because the queue *queue_tag* never made this handle.
    """
    try:
        packed = base64.b64decode(handle.removeprefix(PREFIX), b"-_", validate=True)
        content, checksum = packed[:-4], packed[-4:]
        tag, number, receive = _CONTENT.unpack(content)
    except (ValueError, struct.error):
        raise _unknown(handle) from None
    if not handle.startswith(PREFIX) or tag != queue_tag or checksum != _checksum(content):
        raise _unknown(handle)
    return number, receive


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "big")


def _unknown(handle: str) -> Refusal:
    return Refusal(
        "ReceiptHandleIsInvalid",
        f'The input receipt handle "{handle}" is not a valid receipt handle.',
    )
