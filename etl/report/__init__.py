"""What the analyst opens: the duplicate report, its files, and notebooks as pages."""
