"""The officer's work: the quarantine, recovery of values with an audit, erasure and new keys."""
