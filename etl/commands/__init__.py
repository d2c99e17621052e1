"""The commands of ``python -m etl``, a file for each noun; cli.py puts them together."""
