"""The bare consumer: receive ten, delete ten, throw them away; boto3 as it comes.

Run as ``python -m bench.bare_consumer``; the queue's URL is ETL_QUEUE__URL.
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
                {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]}
                for i, message in enumerate(messages)
            ],
        )


if __name__ == "__main__":
    main()
