"""SQS: what receives, holds, acknowledges, releases and sends messages."""
