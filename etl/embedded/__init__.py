"""A Postgres and an SQS that run on this machine, for the demo, the tests and the benchmarks."""
