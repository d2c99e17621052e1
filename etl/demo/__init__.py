"""`make run` and `make notebook`: sample events, loaded on the embedded services."""
