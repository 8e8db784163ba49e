"""Running a sensor as Airflow does, deferrals and reschedules included."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime, timezone
from typing import Any

import pytest
from airflow.sdk import Context

from tests.support.task_context import AirflowRescheduleException, Task, TaskDeferred, instance_in

#: The three ways to wait, as arguments of a sensor.
MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
}

both = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])


def run(sensor: Any) -> tuple[Any, dict[str, Any]]:
    """What a sensor returns at its end, and its XComs."""
    context = Task().next_try()
    try:
        result = _executed(sensor, context)
    except TaskDeferred as deferred:
        trigger = deferred.trigger
        while True:
            again = type(trigger)(**json.loads(json.dumps(trigger.serialize()[1])))
            try:
                result = sensor.resume_execution("execute_complete", {"event": asyncio.run(event_of(again))}, context)
                break
            except TaskDeferred as more:
                trigger = more.trigger
    sent = {name for name in sensor.hook.api.sent if not name.startswith("Describe")}
    assert not sent, "a sensor only observes"
    return result, instance_in(context).xcoms


def _executed(sensor: Any, context: Context) -> Any:
    """What a sensor returns, whose worker is given back between two looks with mode reschedule."""
    while True:
        try:
            return sensor.execute(context)
        except AirflowRescheduleException as again:
            now = datetime.now(timezone.utc)
            instance_in(context).first_rescheduled = instance_in(context).first_rescheduled or now
            time.sleep(max(0.0, (again.reschedule_date - now).total_seconds()))


async def event_of(trigger: Any) -> Any:
    """The only event of a trigger, as it comes back from Airflow's database."""
    [event] = [event.payload async for event in trigger.run()]
    return json.loads(json.dumps(event))
