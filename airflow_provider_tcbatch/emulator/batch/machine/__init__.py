"""Machines: the types that can be rented, and what plays one on this computer."""
