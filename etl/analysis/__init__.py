"""Questions about the loaded rows and the runs: read only, without a key except in ``exposure``."""
