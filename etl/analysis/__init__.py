"""Questions about the loaded rows: read only, and without a key except in ``exposure``."""
