"""The bare consumer: receive ten messages, delete them, and keep nothing; boto3 with its defaults.

Run as ``python -m bench.bare_consumer``; ETL_QUEUE__URL is the URL of the queue.
"""

from __future__ import annotations

import os

import boto3


def main() -> None:
    """Drain the queue until a receive is empty."""
    client = boto3.client("sqs")
    url = os.environ["ETL_QUEUE__URL"]
    while messages := client.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1
    ).get("Messages"):
        client.delete_message_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(position), "ReceiptHandle": message["ReceiptHandle"]}
                for position, message in enumerate(messages)
            ],
        )


if __name__ == "__main__":
    main()
