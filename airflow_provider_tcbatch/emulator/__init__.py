"""An emulator of Tencent Cloud Batch, TDMQ-CMQ and COS that runs on one machine.

It shares no code with the provider: names and types of API members are read from Tencent's own Python SDK, so
that a mistake in the provider's models cannot be mirrored here.

Run it with ``tcbatch-emulator serve`` or, inside a test, as a context manager::

    from airflow_provider_tcbatch.emulator import Emulator

    with Emulator() as emulator:
        print(emulator.info.endpoint)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.info import EmulatorInfo
    from airflow_provider_tcbatch.emulator.server import Emulator
    from airflow_provider_tcbatch.emulator.settings import Settings, SettingsError

__all__ = ["Emulator", "EmulatorInfo", "Settings", "SettingsError"]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that ``tcbatch-emulator --help`` answers without importing a web server.
    if name == "Emulator":
        from airflow_provider_tcbatch.emulator.server import Emulator

        return Emulator
    if name == "EmulatorInfo":
        from airflow_provider_tcbatch.emulator.info import EmulatorInfo

        return EmulatorInfo
    if name == "Settings":
        from airflow_provider_tcbatch.emulator.settings import Settings

        return Settings
    if name == "SettingsError":
        from airflow_provider_tcbatch.emulator.settings import SettingsError

        return SettingsError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
