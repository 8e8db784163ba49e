"""The HTTP faces of the emulator: API 3.0, the CMQ data plane and the control API."""
