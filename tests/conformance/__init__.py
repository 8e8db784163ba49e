"""Official clients, unchanged, against the emulator."""
