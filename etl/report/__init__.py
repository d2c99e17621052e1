"""Pages and files for the analyst: the duplicate report, and notebooks."""
