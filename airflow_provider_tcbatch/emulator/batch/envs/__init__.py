"""Compute environments and their nodes."""
