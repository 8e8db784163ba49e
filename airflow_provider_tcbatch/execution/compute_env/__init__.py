"""A compute environment, from its creation to its deletion."""
