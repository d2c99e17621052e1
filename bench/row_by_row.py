"""The usual design: ten messages at a time, masked value by value and inserted row by row.

To be fair, it uses one connection, one prepared key, and for ten messages one transaction and one
batch delete. It makes the same tokens and rows as the job, but it checks nothing, keeps no ledger
and has no quarantine. Run as ``python -m bench.row_by_row``.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
from typing import Any

import boto3
import psycopg2
from Crypto.Cipher import AES

INSERT = """
    insert into user_logins (user_id, device_type, masked_ip, masked_device_id, locale, app_version,
                             create_date)
    values (%s, %s, %s, %s, %s, %s, %s)
"""


class Masker:
    """Makes tokens with pycryptodome, one value at a time."""

    def __init__(self, keyring_json: str) -> None:
        keyring = json.loads(keyring_json)
        self._key_id: str = keyring["primary"]
        self._key = base64.b64decode(keyring["keys"][self._key_id])

    def token(self, value: str, context: str) -> str:
        """Return the token of one value."""
        plain = value.encode() + b"\x80"
        cipher = AES.new(self._key, AES.MODE_SIV)
        cipher.update(f"etl:v1:{self._key_id}:{context}".encode())
        sealed, tag = cipher.encrypt_and_digest(plain.ljust(-(-len(plain) // 16) * 16, b"\0"))
        return f"{self._key_id}.{base64.urlsafe_b64encode(tag + sealed).decode().rstrip('=')}"


def packed(version: str) -> int:
    """Return a version as one integer."""
    major, minor, patch = (*map(int, version.split(".")), 0)[:3]
    return major * 1_000_000 + minor * 1_000 + patch


def row(message: Any, masker: Masker) -> tuple[Any, ...]:
    """Return the row of a message."""
    event = json.loads(message["Body"])
    sent = int(message["Attributes"]["SentTimestamp"]) / 1000
    return (
        event["user_id"],
        event["device_type"],
        masker.token(event["ip"], "ip"),
        masker.token(event["device_id"], "device_id"),
        event["locale"],
        packed(event["app_version"]),
        dt.datetime.fromtimestamp(sent, dt.UTC).date(),
    )


def main() -> None:
    """Drain the queue until a receive is empty."""
    client = boto3.client("sqs")
    url = os.environ["ETL_QUEUE__URL"]
    masker = Masker(os.environ["ETL_KEYRING"])
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    while messages := client.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=1,
        MessageSystemAttributeNames=["SentTimestamp"],
    ).get("Messages"):
        with connection, connection.cursor() as cursor:
            for message in messages:
                cursor.execute(INSERT, row(message, masker))
        client.delete_message_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(position), "ReceiptHandle": message["ReceiptHandle"]}
                for position, message in enumerate(messages)
            ],
        )
    connection.close()


if __name__ == "__main__":
    main()
