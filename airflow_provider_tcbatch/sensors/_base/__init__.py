"""Bases of the sensors."""
