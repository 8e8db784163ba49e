from __future__ import annotations

import importlib.util
import shutil
import uuid
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from airflow.assets.manager import AssetManager
from airflow.models import dagrun
from airflow.models.asset import AssetEvent, AssetModel
from sqlalchemy import select

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.models.job import Job
from tests.unit.conftest import job

SOURCE = Path(__file__).parents[3] / "example_dags" / "on_batch_event.py"


@pytest.fixture
def example(airflow_home: Path, connection: str) -> Iterator[Any]:
    """The example as a module of Airflow's folder."""
    path = airflow_home / "dags" / SOURCE.name
    shutil.copy(SOURCE, path)
    spec = importlib.util.spec_from_file_location("on_batch_event", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    path.unlink()


def submit(topic: str, name: str, command: str, **variables: str) -> str:
    """Submit a job that tells the topic of its end."""
    event_vars = [{"Name": name, "Value": value} for name, value in variables.items()]
    configs = [{"EventName": event, "EventVars": event_vars} for event in ("JOB_SUCCEED", "JOB_FAILED")]
    notifications = [{"TopicName": topic, "EventConfigs": configs}]
    spec = {**job(command), "JobName": name, "Notifications": notifications, "NotificationTarget": "TDMQ_CMQ"}
    return TCBatchHook().submit_job(Job.parse(spec))


async def test_it_handles_the_ends_of_jobs(
    example: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The watcher's trigger hears of jobs, and its events start a run as the scheduler would."""
    [watcher] = example.ended.watchers
    hook, topic = CmqHook(), f"topic-{uuid.uuid4().hex[:8]}"
    hook.ensure_topic(topic)
    hook.ensure_queue(watcher.trigger.queue_name)
    hook.ensure_subscription(topic, watcher.trigger.queue_name)
    good = submit(topic, "good", "true", pipeline="nightly")
    bad = submit(topic, "bad", "exit 1", pipeline="nightly")
    submit(topic, "other", "true", pipeline="hourly")
    async with aclosing(watcher.trigger.run()) as events:
        payloads = [(await anext(events)).payload]
        while sum(len(payload["events"]) for payload in payloads) < 2:
            payloads.append((await anext(events)).payload)
    hook.remove_subscription(topic, watcher.trigger.queue_name)
    hook.remove_queue(watcher.trigger.queue_name)

    make = dagrun.get_or_create_dagrun

    def make_for_events(*, session: Any, **arguments: Any) -> Any:
        """What triggerer and scheduler do: the trigger's events are stored, and a run is made for them."""
        run = make(session=session, **arguments)
        [asset] = session.scalars(select(AssetModel).where(AssetModel.name == example.ended.name))
        for payload in payloads:
            # As in Trigger.submit_event: under dag.test() the watcher has no row of its own.
            extra = {"from_trigger": True, "payload": payload}
            AssetManager.register_asset_change(asset=asset.to_serialized(), extra=extra, session=session)
        run.consumed_asset_events.extend(session.scalars(select(AssetEvent).where(AssetEvent.asset_id == asset.id)))
        session.flush()
        return run

    monkeypatch.setattr(dagrun, "get_or_create_dagrun", make_for_events)
    run = example.DAG.test()
    assert str(run.state) == "success"
    out = capfd.readouterr().out
    assert f"good ({good}): SUCCEED at " in out
    assert f"bad ({bad}): FAILED at " in out
    assert "other" not in out
