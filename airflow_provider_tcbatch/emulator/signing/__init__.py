"""The three signature schemes of the emulated services, as pure functions."""
