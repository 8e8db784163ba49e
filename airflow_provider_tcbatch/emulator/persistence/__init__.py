"""What an emulator with a data folder keeps, so that the next one goes on with it."""
