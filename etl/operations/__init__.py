"""What the officer does: the quarantine, recovery of values with an audit, erasure and new keys."""
