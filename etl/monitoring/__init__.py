"""Metrics of a run: in CloudWatch's format, as a Prometheus textfile, and over OpenTelemetry."""
