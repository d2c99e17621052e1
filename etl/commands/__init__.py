"""The command line, one file for each noun: the only place that builds objects from settings."""
