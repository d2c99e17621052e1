"""How fast the job is, compared with other programs that could do the same work."""
