"""``etl doctor``: what a run would meet, asked without a side effect, one result for each check."""
