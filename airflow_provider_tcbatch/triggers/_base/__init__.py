"""Bases of the triggers."""
