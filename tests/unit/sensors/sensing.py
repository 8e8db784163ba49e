"""Running a sensor as Airflow does, deferrals included."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.task_context import Task, TaskDeferred

both = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])


def run(sensor: Any) -> tuple[Any, dict[str, Any]]:
    """What a sensor returns at its end, and its XComs."""
    context = Task().next_try()
    try:
        result = sensor.execute(context)
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
    return result, context["ti"].xcoms


async def event_of(trigger: Any) -> Any:
    """The only event of a trigger, as it comes back from Airflow's database."""
    [event] = [event.payload async for event in trigger.run()]
    return json.loads(json.dumps(event))
