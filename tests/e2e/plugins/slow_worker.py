"""An Airflow plugin: workers that have deferred a task do not end before the test lets them, or the task is resumed.

The second is what must not happen: then the worker ends at once, so that the scheduler hears of it while the task runs,
and the resumed task stays until it has.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

#: Files are how the test and the workers know of each other: ``gate``, made by the test; ``winding_up_<index>`` and
#: ``resumed_<index>``, made by workers.
FOLDER = Path(os.environ.get("SLOW_WORKER_FOLDER", "/nonexistent"))

#: The task that this process runs.
_running: list[Any] = []


def _wait_for(*names: str) -> None:
    # Airflow ends the process of a task that has failed meanwhile.
    while FOLDER.is_dir() and not any((FOLDER / name).exists() for name in names):
        time.sleep(0.05)


@hookimpl
def on_task_instance_running(previous_state: Any, task_instance: Any) -> None:
    _running[:] = [task_instance]
    if task_instance._ti_context_from_server.next_method and FOLDER.is_dir() and not (FOLDER / "gate").exists():
        (FOLDER / f"resumed_{task_instance.map_index}").touch()
        _wait_for("gate")


@hookimpl
def before_stopping(component: Any) -> None:
    if type(component).__name__ != "TaskRunnerMarker" or not _running or _running[0].state != "deferred":
        return
    if FOLDER.is_dir():
        (FOLDER / f"winding_up_{_running[0].map_index}").touch()
    _wait_for("gate", f"resumed_{_running[0].map_index}")


class SlowWorker(AirflowPlugin):
    name = "slow_worker"
    listeners = [sys.modules[__name__]]  # noqa: RUF012 - as the base declares it
