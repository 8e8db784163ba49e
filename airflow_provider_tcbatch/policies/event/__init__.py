"""Decisions about events."""
