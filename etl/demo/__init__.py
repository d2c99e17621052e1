"""`make run` and `make notebook`: made-up events, loaded on the embedded services."""
