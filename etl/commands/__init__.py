"""The command line, a noun a file: the only place that builds objects from settings."""
