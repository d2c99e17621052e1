"""Several workers on one machine: processes that share one run, its row and its quota."""
