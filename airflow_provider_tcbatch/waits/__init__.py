"""Waiting, for a worker and for a trigger alike."""
