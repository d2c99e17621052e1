"""Output for a person at a terminal: tables, summaries and progress."""
