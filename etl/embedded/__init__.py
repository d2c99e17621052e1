"""The Postgres and the SQS that come with the project, for the demo, tests and benchmarks."""
