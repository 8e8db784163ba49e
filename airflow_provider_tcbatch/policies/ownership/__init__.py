"""Decisions about what belongs to whom."""
