"""Decisions about task templates."""
