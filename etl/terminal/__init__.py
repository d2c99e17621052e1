"""What a person sees in the terminal: tables, summaries and progress."""
