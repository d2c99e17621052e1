"""What the officer does: the quarantine, recovery with an audit, erasure, new keys."""
