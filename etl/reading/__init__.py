"""How an event is taken out of a message, and values out of an event."""
