"""Bases of the operators."""
