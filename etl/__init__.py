"""A masking bulk loader from Amazon SQS to Postgres."""

__version__ = "0.1.0"
