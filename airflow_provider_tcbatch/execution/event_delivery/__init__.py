"""The way of events, from Batch to a queue."""
