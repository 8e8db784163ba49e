"""Jobs and environments that nobody waits for."""
