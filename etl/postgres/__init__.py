"""Postgres: connections, the job's tables, COPY, and what its errors mean."""
