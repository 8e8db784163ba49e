"""Bad weather: seeded storms over real processes, and an auditor who counts what went wrong."""
