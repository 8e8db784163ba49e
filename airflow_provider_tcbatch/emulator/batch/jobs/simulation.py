"""Instances that take time and end as a script says, without a process or a file.

The script is in the task's EnvVars, so that whoever submits a job decides how it goes: ``EMULATOR_SECONDS`` and
``EMULATOR_EXIT_CODE``. Either may list several values, separated by commas: the first is for the first attempt and so
on, the last for all further ones. ``1,1,0`` fails twice and then succeeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.emulator.batch.jobs.entities import DEFAULT_TIMEOUT, Failure, Instance

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.host import Host

SECONDS, EXIT_CODE = "EMULATOR_SECONDS", "EMULATOR_EXIT_CODE"


async def play(host: Host, instance: Instance, on_running: Callable[[], None]) -> Failure | None:
    """One attempt of one instance.

    :param on_running: called when the command would have been started.
    :return: None on success.
    """
    spec = instance.task.spec
    # Attempts ever, also those before a RetryJobs: what a user repairs goes on in its script.
    instance.folders += 1
    script = {item["Name"]: item["Value"] for item in spec.get("EnvVars", ()) if item["Name"].startswith("EMULATOR_")}
    try:
        seconds = float(_turn(script, SECONDS, instance.folders) or host.settings.simulated_seconds)
        exit_code = int(_turn(script, EXIT_CODE, instance.folders) or host.settings.simulated_exit_code)
        if not (math.isfinite(seconds) and seconds >= 0 and 0 <= exit_code <= 255):
            raise ValueError("out of range")
    except ValueError as error:
        return Failure(f"{SECONDS} or {EXIT_CODE} cannot be followed: {error}", was_running=False)
    on_running()
    timeout = spec.get("Timeout", DEFAULT_TIMEOUT)
    await host.sleep(min(seconds, timeout))
    if seconds > timeout:
        # What a shell reports of a process that was stopped by SIGTERM.
        instance.exit_code = 143
        return Failure(f"Timeout: the command ran longer than {timeout} s")
    instance.exit_code = exit_code
    return Failure(f"The command ended with exit code {exit_code}") if exit_code else None


def _turn(script: dict[str, str], name: str, attempt: int) -> str:
    values = script.get(name, "").split(",")
    return values[min(attempt, len(values)) - 1].strip()
