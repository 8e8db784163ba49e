"""Sensors that begin, or end, in the triggerer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.execution_time import task_runner
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import BaseTaskEndEvent, TaskSkippedEvent, TaskSuccessEvent
from jinja2 import UndefinedError

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.sensors._base import start_from_trigger as from_trigger
from airflow_provider_tcbatch.sensors._base.sensor import AirflowSensorTimeout
from airflow_provider_tcbatch.sensors.compute_env import TCBatchComputeEnvSensor
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from airflow_provider_tcbatch.sensors.task import TCBatchTaskSensor
from airflow_provider_tcbatch.sensors.task_instance import TCBatchTaskInstanceSensor
from tests.support.from_trigger import start_trigger
from tests.support.task_context import AirflowSkipException, Task, TaskDeferred, instance_in
from tests.unit.conftest import job
from tests.unit.sensors.sensing import run

ID = '{{ dag_run.conf["ids"][0] }}'


@pytest.fixture
def submit(connection: str, emulator: Emulator) -> Iterator[Callable[..., str]]:
    """Submits a job by its command."""
    hook = TCBatchHook(connection)
    submitted: list[str] = []

    def submit(command: str = "true", **task: Any) -> str:
        submitted.append(hook.submit_job(job(command, **task)))
        return submitted[-1]

    yield submit
    for job_id in submitted:
        hook.end_job(job_id)


def sensor(kind: Any = TCBatchJobSensor, **options: Any) -> Any:
    given = {"poke_interval": 1, "timeout": 20, "start_from_trigger": True, **options}
    with DAG("waits", schedule=None):
        return kind(task_id="sense", **given)


class Comms:
    """The triggerer's side of Airflow: takes XComs as a worker's."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    async def asend(self, message: Any) -> None:
        self.pushed[message.key] = message.value


def started(sense: Any, **conf: Any) -> Any:
    """The only event of a sensor's trigger, whose task no worker has seen, with the XComs that were pushed before."""
    trigger = start_trigger(sense, conf)
    comms = Comms()

    async def only_event() -> Any:
        [event] = [event async for event in trigger.run()]
        return event

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
        event = asyncio.run(only_event())
    if isinstance(event, BaseTaskEndEvent):
        assert event.xcoms is None, "they would reach other tasks as text"
        event.xcoms = comms.pushed
    return event


def resumed(sense: Any, event: Any, **conf: Any) -> tuple[Any, dict[str, Any]]:
    """What the sensor returns on the worker that only ends the task, and its XComs."""
    context = Task().next_try()
    sense.render_template_fields({"dag_run": SimpleNamespace(conf=conf)})
    result = sense.resume_execution("execute_complete", {"event": json.loads(json.dumps(event.payload))}, context)
    return result, instance_in(context).xcoms


WAITS = [
    pytest.param(TCBatchJobSensor, {"job_ids": ID}, id="job"),
    pytest.param(TCBatchJobSensor, {"job_ids": [ID]}, id="job in a list"),
    pytest.param(TCBatchJobSensor, {"job_ids": "{{ dag_run.conf.ids }}"}, id="list from Jinja"),
    pytest.param(TCBatchJobSensor, {"job_ids": "{{ dag_run.conf.ids | tojson }}"}, id="JSON from Jinja"),
    pytest.param(TCBatchJobSensor, {"job_name": "te{{ dag_run.conf.name }}"}, id="name"),
    pytest.param(TCBatchTaskSensor, {"job_id": ID, "task_name": "{{ dag_run.conf.task }}"}, id="task"),
    pytest.param(
        TCBatchTaskInstanceSensor,
        {
            "job_id": ID,
            "task_name": "{{ dag_run.conf.task }}",
            "indexes": "{{ dag_run.conf.indexes }}",
            "quorum": "{{ dag_run.conf.quorum }}",
        },
        id="instances",
    ),
]


@pytest.mark.parametrize("ends", [False, True], ids=["ended by a worker", "ended by the trigger"])
@pytest.mark.parametrize(("kind", "options"), WAITS)
def test_arguments_from_jinja(submit: Callable[..., str], kind: Any, options: dict[str, Any], ends: bool) -> None:
    job_id = submit("sleep 0.5", instances=2)
    conf = {"ids": [job_id], "name": "st", "task": "main", "indexes": "0-1", "quorum": "50 %"}
    on_a_worker, _ = run(sensor(**{"kind": kind, **options, **_rendered(options, conf)}))

    sense = sensor(kind, **options, end_from_trigger=ends)
    event = started(sense, **conf)
    assert isinstance(event, TaskSuccessEvent) is ends
    result, xcoms = (event.xcoms["return_value"], event.xcoms) if ends else resumed(sense, event, **conf)
    assert (result["needed"] if isinstance(result, dict) and "needed" in result else result) == (
        1 if kind is TCBatchTaskInstanceSensor else on_a_worker
    )
    assert xcoms["tcbatch_job_url"] == TCBatchHook().settings.job_url(job_id)
    wait = xcoms["tcbatch_wait"]
    assert wait["status"] == "reached"
    assert wait["source"] in ("poll", "event")
    assert wait["observed_at"] == pytest.approx(time.time(), abs=60)


def _rendered(options: dict[str, Any], conf: dict[str, Any]) -> dict[str, Any]:
    """The arguments as a DAG without Jinja would have them."""
    plain = {"job_ids": conf["ids"], "job_id": conf["ids"][0], "job_name": "test", "task_name": conf["task"]}
    plain |= {"indexes": conf["indexes"], "quorum": conf["quorum"]}
    return {name: plain[name] for name in options}


@pytest.mark.parametrize("named", [False, True], ids=["id", "name"])
def test_an_environment(emulator: Emulator, connection: str, named: bool) -> None:
    emulator.configure(node_creating_seconds=0.1, node_deleting_seconds=0.1, env_deleting_seconds=0.1)
    emulator.on_loop(lambda services: services.batch.envs.clear())
    env = {"EnvName": "early", "EnvData": {"InstanceType": "S5.MEDIUM4"}, "ResourceMaxRetryCount": 0}
    hook = TCBatchHook()
    env_id = hook.create_compute_env({**env, "DesiredComputeNodeCount": 2})
    which = {"env_name": "{{ dag_run.conf.name }}"} if named else {"env_id": "{{ dag_run.conf.id }}"}
    conf = {"name": "early", "id": env_id, "nodes": 2}
    sense = sensor(TCBatchComputeEnvSensor, **which, nodes="{{ dag_run.conf.nodes }}", end_from_trigger=True)
    event = started(sense, **conf)
    assert event.xcoms["return_value"] == {"desired": 2, "running": 2, "failed": 0, "present": 2, "attached": 0}
    assert event.xcoms["tcbatch_env_url"] == hook.settings.env_url(env_id)
    assert (event.xcoms["tcbatch_wait"]["status"], event.xcoms["tcbatch_wait"]["source"]) == ("reached", "poll")

    if named:
        hook.create_compute_env({**env, "DesiredComputeNodeCount": 0})
        sense = sensor(TCBatchComputeEnvSensor, **which)
        with pytest.raises(e.InvalidRequest, match="2 compute environments are called 'early': name one by its id"):
            resumed(sense, started(sense, **conf), **conf)
    emulator.on_loop(lambda services: services.batch.envs.clear())
    sense = sensor(TCBatchComputeEnvSensor, **which, until="deleted", end_from_trigger=True)
    event = started(sense, **conf)
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms is not None
    assert "return_value" not in event.xcoms, "there is nothing left to tell"


def test_a_failure_is_explained_on_a_worker(submit: Callable[..., str]) -> None:
    sense = sensor(job_ids=submit("echo no such file >&2; exit 3"), end_from_trigger=True)
    event = started(sense)
    assert event.payload["status"] == "failed"
    with pytest.raises(e.JobFailed, match="no such file"):
        resumed(sense, event)


@pytest.mark.parametrize("choice", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("ends", [False, True], ids=["ended by a worker", "ended by the trigger"])
def test_a_failure_that_skips(submit: Callable[..., str], choice: str, ends: bool) -> None:
    job_id = submit("exit 3")
    sense = sensor(job_ids=job_id, end_from_trigger=ends, **{choice: True})
    event = started(sense)
    if ends:
        assert isinstance(event, TaskSkippedEvent)
        assert event.xcoms is not None
        wait = event.xcoms["tcbatch_wait"]
        assert isinstance(wait, dict)
        assert wait["status"] == "failed"
        assert event.xcoms["tcbatch_job_url"] == TCBatchHook().settings.job_url(job_id)
        return
    with pytest.raises(AirflowSkipException):
        resumed(sense, event)


@pytest.mark.parametrize("ends", [False, True])
def test_it_gives_up_before_airflow_does(submit: Callable[..., str], ends: bool) -> None:
    begun = time.time()
    sense = sensor(job_ids=submit("sleep 120"), timeout=2, end_from_trigger=ends)
    event = started(sense)
    assert (event.payload["status"], event.payload["limit"]) == ("timeout", "timeout")
    assert 2 <= time.time() - begun < 100
    with pytest.raises(AirflowSensorTimeout, match="did not come true within 2 s"):
        resumed(sense, event)
    sense = sensor(job_ids=submit("sleep 600"), timeout=0, end_from_trigger=ends, soft_fail=True)
    with pytest.raises(AirflowSkipException):
        resumed(sense, started(sense))


@pytest.mark.parametrize(
    ("timeout", "execution_timeout", "patience"),
    [(600, None, 600), (600, 6000, 600), (600, 700, 580), (600, 60, 45), (600, 720, 600)],
)
def test_the_margin_to_airflows_own_end(timeout: float, execution_timeout: float | None, patience: float) -> None:
    """Airflow ends the trigger at the earlier of its timeout and execution_timeout, and nobody could say why."""
    most = None if execution_timeout is None else timedelta(seconds=execution_timeout)
    now = time.time()
    trigger = start_trigger(sensor(job_ids="job-1", timeout=timeout, execution_timeout=most))
    trigger.begin()
    assert trigger.deadlines["timeout"] - now == pytest.approx(patience, abs=9)
    assert trigger.timeout_after.timestamp() - trigger.deadlines["timeout"] >= 15


def test_a_wait_that_failed_goes_on_until_the_same_instant(submit: Callable[..., str]) -> None:
    sense = sensor(job_ids=submit("sleep 600"))
    event = {"status": "error", "message": "no network", "states": {}, "errors": 0, "give_up_at": 12345.0}
    with pytest.raises(TaskDeferred) as deferred:
        sense.execute_complete(Task().next_try(), event)
    assert deferred.value.trigger.deadlines == {"timeout": 12345.0}
    assert deferred.value.trigger.margin is None


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TCBatchJobSensor, {"job_name": "{{ '' }}"}, "job_name is ''; write one name"),
        (TCBatchTaskSensor, {"job_id": "{{ '' }}", "task_name": "main"}, "job_id is ''; write one name"),
        (TCBatchTaskInstanceSensor, {"job_id": ID, "task_name": "main", "quorum": "{{ 1 + 1 }} of 3"}, "quorum is '2"),
        (TCBatchTaskInstanceSensor, {"job_id": ID, "task_name": "main", "indexes": "{{ 'x' }}"}, "indexes is 'x'"),
        (TCBatchComputeEnvSensor, {"env_id": "{{ '' }}"}, "env_id is ''; write one name"),
        (
            TCBatchComputeEnvSensor,
            {"env_id": "env-{{ 1 }}", "nodes": "{{ 'many' }}"},
            "nodes is 'many'; write a number",
        ),
    ],
)
def test_what_is_wrong_after_rendering_is_said_in_the_task(
    submit: Callable[..., str], kind: Any, options: dict[str, Any], message: str
) -> None:
    conf = {"ids": [submit()]}
    sense = sensor(kind, **options, end_from_trigger=True)
    event = started(sense, **conf)
    assert event.payload["status"] == "error"
    with pytest.raises(e.InvalidRequest, match=message) as caught:
        resumed(sense, event, **conf)
    assert "'sense'" in str(caught.value)


def test_what_is_not_there_is_no_empty_text(submit: Callable[..., str]) -> None:
    """Else a misspelt key would mean that there is nothing to wait for, and success."""
    sense = sensor(job_ids="{{ dag_run.conf.idz }}", end_from_trigger=True)
    conf = {"ids": [submit()]}
    event = started(sense, **conf)
    assert event.payload["status"] == "error"
    assert "idz" in event.payload["message"]
    with pytest.raises(UndefinedError, match="idz"):
        resumed(sense, event, **conf)


def test_macros_of_the_dag_need_a_worker(submit: Callable[..., str]) -> None:
    job_id = submit("sleep 2")
    with DAG("macros", schedule=None, user_defined_macros={"the_job": job_id}):
        sense = TCBatchJobSensor(task_id="sense", job_ids="{{ the_job }}", start_from_trigger=True, timeout=20)
    with pytest.raises(TaskDeferred) as deferred:
        resumed(sense, started(sense))
    assert deferred.value.trigger.job_ids == job_id


def test_no_jobs_are_nothing_to_wait_for(connection: str) -> None:
    assert started(sensor(job_ids="{{ [] }}", end_from_trigger=True)).xcoms["return_value"] == {}


def test_where_no_xcom_can_be_pushed_a_worker_ends_the_task(submit: Callable[..., str]) -> None:
    """As with dag.test(), and with Airflow 3.1."""
    job_id = submit("sleep 4")
    result, xcoms = run(sensor(job_ids=job_id, end_from_trigger=True))
    assert result == {job_id: "SUCCEED"}
    assert xcoms["tcbatch_wait"]["status"] == "reached"


def test_xcoms_can_be_left_out(submit: Callable[..., str]) -> None:
    event = started(sensor(job_ids=submit(), end_from_trigger=True, do_xcom_push=False))
    assert event.xcoms.keys() == {"tcbatch_job_url", "tcbatch_wait"}


def test_a_worker_that_begins_it_all_the_same(submit: Callable[..., str]) -> None:
    """As with dag.test(), and with Airflow 3.1, which has no start from a trigger."""
    job_id = submit("sleep 1")
    assert run(sensor(job_ids=job_id))[0] == {job_id: "SUCCEED"}


def test_the_dag_is_the_same_at_each_parse() -> None:
    def parsed() -> str:
        dag = sensor(TCBatchTaskSensor, job_id=ID, task_name="main", execution_timeout=timedelta(hours=1)).dag
        return json.dumps(DagSerialization.to_dict(dag), sort_keys=True)

    first = parsed()
    time.sleep(0.01)
    assert parsed() == first


@pytest.mark.parametrize("flag", ["start_from_trigger", "end_from_trigger"])
def test_both_need_the_triggerer(flag: str) -> None:
    chosen: dict[str, Any] = {flag: True}
    assert TCBatchJobSensor(task_id="sense", job_ids="job-1", **chosen).deferrable
    with pytest.raises(e.InvalidRequest, match=rf"'sense' \(.*\): {flag} needs deferrable=True"):
        TCBatchJobSensor(task_id="sense", job_ids="job-1", deferrable=False, **chosen)


def test_mapped_sensors_begin_on_workers() -> None:
    with DAG("mapped", schedule=None):
        with pytest.raises(e.InvalidRequest, match="'sense': Airflow does not start mapped tasks from a trigger"):
            TCBatchJobSensor.partial(task_id="sense", start_from_trigger=True)
        with pytest.raises(e.InvalidRequest, match="outlets would be lost"):
            TCBatchJobSensor.partial(task_id="sense", end_from_trigger=True, outlets=[Asset("a")])
        mapped = TCBatchJobSensor.partial(task_id="sense", end_from_trigger=True).expand(job_ids=["job-1", "job-2"])
    assert mapped.partial_kwargs["end_from_trigger"] is True


@pytest.mark.parametrize("listed", [False, True])
def test_the_output_of_a_task_does_not_reach_a_trigger_that_is_started(listed: bool) -> None:
    with DAG("outputs", schedule=None):
        first = TCBatchJobSensor(task_id="first", job_ids="job-1")
        given: Any = [first.output] if listed else first.output
        with pytest.raises(e.InvalidRequest, match=r"'sense' \(.*\): job_ids is the output of another task.*xcom_pull"):
            TCBatchJobSensor(task_id="sense", job_ids=given, start_from_trigger=True)
        with pytest.raises(e.InvalidRequest, match="region is the output"):
            TCBatchJobSensor(task_id="sense2", job_ids="job-1", region=first.output, start_from_trigger=True)


def test_jinja_is_not_rendered_by_old_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_trigger, "_renders", lambda: False)
    with pytest.raises(
        e.InvalidRequest, match=r"'sense' \(.*\): job_ids holds Jinja, which Airflow before 3\.3 does not"
    ):
        sensor(job_ids=["job-1", ID])
    assert sensor(job_ids=["job-1"]).start_trigger_args is not None


LOST: dict[str, dict[str, Any]] = {
    "on_success_callback": {"on_success_callback": print},
    "on_skipped_callback": {"on_skipped_callback": print, "soft_fail": True},
    "on_execute_callback": {"on_execute_callback": print, "start_from_trigger": True},
    "pre_execute": {"pre_execute": print, "start_from_trigger": True},
    "post_execute": {"post_execute": print},
    "outlets": {"outlets": [Asset("a")]},
    "multiple_outputs": {"multiple_outputs": True},
    "summary": {"summary": True},
}


@pytest.mark.parametrize("name", LOST)
def test_nothing_is_lost_in_silence(name: str) -> None:
    with pytest.raises(e.InvalidRequest, match=rf"'sense' \(.*\): with end_from_trigger, {name} would be lost"):
        sensor(**{"job_ids": "job-1", "start_from_trigger": False, "end_from_trigger": True, **LOST[name]})
    sensor(**{"job_ids": "job-1", **LOST[name], "start_from_trigger": False})


def test_what_a_worker_does_all_the_same_is_not_refused() -> None:
    kept = {"on_failure_callback": print, "on_retry_callback": print, "on_skipped_callback": print}
    sensor(job_ids="job-1", end_from_trigger=True, start_from_trigger=False, on_execute_callback=print, **kept)
