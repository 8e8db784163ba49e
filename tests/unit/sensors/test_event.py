from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.models.notification import EventName
from airflow_provider_tcbatch.sensors._base.sensor import AirflowSensorTimeout
from airflow_provider_tcbatch.sensors.event import TCBatchEventSensor
from airflow_provider_tcbatch.triggers._base import sensor_trigger as observing
from tests.support.from_trigger import start_trigger
from tests.support.task_context import AirflowSkipException, Task, instance_in
from tests.unit.conftest import job
from tests.unit.sensors.sensing import both, run

NAMES = [name.value for name in EventName]
#: A state of a named job, task or environment tells of these.
TOLD_BY_STATES = [name for name in NAMES if not name.startswith("COMPUTE_NODE")]
TOLD_BY_STATES += ["COMPUTE_NODE_CREATED", "COMPUTE_NODE_RUNNING"]


class World:
    """Lets events happen."""

    def __init__(self, emulator: Emulator, connection: str) -> None:
        self.emulator = emulator
        self.hook = TCBatchHook(connection)
        self.token = uuid.uuid4().hex
        self.topic = emulator.info.topic
        self.jobs: list[str] = []
        #: Queues that hear the topic already: the topic's own, and what an earlier test has left.
        self._others: frozenset[str] = frozenset()
        self._others = frozenset(self.own_queues)

    def notifications(self, *names: str) -> dict[str, Any]:
        variables = [{"Name": "run", "Value": self.token}, {"Name": "team", "Value": "etl"}]
        configs = [{"EventName": name, "EventVars": variables} for name in names]
        return {"Notifications": [{"TopicName": self.topic, "EventConfigs": configs}]} if names else {}

    def submit(self, command: str, *names: str, job_name: str = "test", **task: Any) -> str:
        whole = {**job(command, **task), "JobName": job_name, "NotificationTarget": "TDMQ_CMQ"}
        self.jobs.append(self.hook.submit_job({**whole, **self.notifications(*names)}))
        return self.jobs[-1]

    def make_env(self, *names: str, nodes: int = 0) -> str:
        env = {
            "EnvName": self.token,
            "EnvData": {"InstanceType": "S5.MEDIUM4"},
            "ResourceMaxRetryCount": 0,
            "DesiredComputeNodeCount": nodes,
            **self.notifications(*names),
        }
        return self.hook.create_compute_env({**env, "NotificationTarget": "TDMQ_CMQ"} if names else env)

    def happen(self, name: str) -> dict[str, Any]:
        """Let an event come; returns what a filter could choose it by."""
        if name.startswith(("JOB", "TASK")):
            state = name.removeprefix("JOB_").removeprefix("TASK_").removeprefix("INSTANCE_")
            command = "exit 1" if state.startswith("FAILED") else "true"
            interrupted = {"FailedAction": "INTERRUPT"} if state == "FAILED_INTERRUPTED" else {}
            job_id = self.submit(command, name, **interrupted)
            parts: dict[str, Any] = {} if name.startswith("JOB") else {"task_name": "main"}
            return {"job_id": job_id, **parts, **({"task_instance_index": 0} if "INSTANCE" in name else {})}
        if name == "COMPUTE_NODE_CREATION_FAILED":
            self.emulator.configure(cvm_failures={"*": "no_stock"})
        env_id = self.make_env(name, nodes=int("NODE" in name))
        if name == "COMPUTE_ENV_DELETED":
            self.hook.delete_compute_env(env_id)
        if name in ("COMPUTE_NODE_ABNORMAL", "COMPUTE_NODE_DELETING"):
            [node_id] = soon(
                lambda: [
                    node.compute_node_id
                    for node in self.hook.describe_compute_env(env_id).compute_node_set or ()
                    if node.compute_node_state == "RUNNING"
                ]
            )
            if name == "COMPUTE_NODE_ABNORMAL":
                self.emulator.faults.add("lose_machine", target=node_id, count=1)
            else:
                self.hook.modify_compute_env(env_id, desired_compute_node_count=0)
        return {"env_id": env_id}

    @property
    def own_queues(self) -> list[str]:
        """Queues that processes have made for themselves meanwhile, and that hear the topic."""
        return self.emulator.on_loop(
            lambda services: [
                name
                for name in services.cmq.broker.topics[self.topic].subscriptions
                if name != f"{self.topic}-base" and name not in self._others
            ]
        )

    def listened_to(self, sensor: TCBatchEventSensor, then: Callable[[], Any]) -> Any:
        """What a sensor returns, if something happens once it listens."""
        return self.ended(lambda: run(sensor), then)[0]

    def ended(self, wait: Callable[[], Any], then: Callable[[], Any]) -> Any:
        """How a wait ends, if something happens once it listens."""
        before = set(self.own_queues)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(wait)
            soon(lambda: running.done() or set(self.own_queues) - before)
            assert not running.done(), running.result()
            then()
            return running.result(timeout=60)


def soon(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What is found, once there is something."""
    until = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < until, "it did not happen"
        threading.Event().wait(0.02)
    return result


@pytest.fixture
def world(emulator: Emulator, connection: str) -> Iterator[World]:
    emulator.configure(
        node_submitted_seconds=0,
        node_pending_seconds=0,
        node_creating_seconds=0.1,
        node_created_seconds=0.1,
        node_deleting_seconds=0.1,
        env_deleting_seconds=0.1,
    )
    made = World(emulator, connection)
    yield made
    emulator.faults.clear()
    for job_id in made.jobs:
        made.hook.end_job(job_id)
    emulator.on_loop(lambda services: services.batch.envs.clear())


def change_connection(monkeypatch: pytest.MonkeyPatch, emulator: Emulator, **fields: str) -> None:
    connection = json.loads(emulator.info.airflow_conn_json)
    connection["extra"].update(fields)
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(connection))


def sensor(event_names: Any, **options: Any) -> TCBatchEventSensor:
    return TCBatchEventSensor(
        task_id="sense", event_names=event_names, **{"poke_interval": 0.2, "timeout": 120, **options}
    )


# -- heard -----------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_heard_by_its_variables(world: World, name: str, deferrable: bool) -> None:
    waiting = sensor(name, variables={"run": world.token}, deferrable=deferrable)
    happened: dict[str, Any] = {}
    found = world.listened_to(waiting, lambda: happened.update(world.happen(name)))
    assert found["name"] == name
    assert found["heard"] is True
    assert found["variables"] == {"run": world.token, "team": "etl"}
    assert {member: found[member] for member in happened} == happened
    assert found["event_id"]
    if "NODE" in name:
        assert found["node_id"].startswith("node-")
    assert not world.own_queues, "an own queue goes with the wait"


@pytest.mark.parametrize("shape", ["objects", "lower", "mapping"])
@pytest.mark.parametrize("form", ["wrapped", "bare", "snake", "extended"])
def test_whatever_the_body_looks_like(world: World, emulator: Emulator, form: str, shape: str) -> None:
    emulator.configure(event_body=form, event_vars_shape=shape)
    waiting = sensor("TASK_SUCCEED", variables={"run": world.token}, deferrable=True)
    found = world.listened_to(waiting, lambda: world.happen("TASK_SUCCEED"))
    assert (found["task_name"], found["variables"]["team"]) == ("main", "etl")


@both
def test_what_the_body_leaves_out_is_asked_of_the_service(world: World, emulator: Emulator, deferrable: bool) -> None:
    """It says that a node of an environment runs, and not what the environment is called."""
    emulator.configure(event_body="minimal")
    waiting = sensor("COMPUTE_NODE_ABNORMAL", env_name=world.token, deferrable=deferrable, poke_interval=60)
    found = world.listened_to(waiting, lambda: world.happen("COMPUTE_NODE_ABNORMAL"))
    assert (found["env_name"], found["time"]) == (world.token, None)


@both
def test_events_of_others_are_passed_over(world: World, deferrable: bool) -> None:
    waiting = sensor("JOB_FAILED", variables={"run": world.token, "team": "etl"}, deferrable=deferrable)

    def happen() -> None:
        other = World(world.emulator, "tencentcloud_default")
        world.jobs.append(other.happen("JOB_FAILED")["job_id"])
        world.happen("JOB_SUCCEED")
        world.happen("JOB_FAILED")

    assert world.listened_to(waiting, happen)["job_id"] == world.jobs[-1]


@both
def test_one_that_is_repeated_or_late(world: World, emulator: Emulator, deferrable: bool) -> None:
    emulator.faults.add("duplicate_event", action="JOB_FAILED", copies=3, count=1)
    emulator.faults.add("delay_event", action="JOB_FAILED", seconds=0.5)
    waiting = sensor("JOB_FAILED", variables={"run": world.token}, deferrable=deferrable)
    assert world.listened_to(waiting, lambda: world.happen("JOB_FAILED"))["job_id"] == world.jobs[0]
    again = sensor("JOB_FAILED", variables={"run": world.token}, deferrable=deferrable)
    assert world.listened_to(again, lambda: world.happen("JOB_FAILED"))["job_id"] == world.jobs[1]


# -- seen ------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", TOLD_BY_STATES)
def test_an_event_that_is_lost_is_known_by_its_state(
    world: World, emulator: Emulator, name: str, deferrable: bool
) -> None:
    emulator.faults.add("lose_event", action=name)
    happened = world.happen(name)
    found, _ = run(sensor(name, **happened, deferrable=deferrable))
    assert found["name"] == name
    assert {member: found[member] for member in happened} == happened
    assert (found["heard"], found["event_id"], found["time"], found["variables"]) == (False, None, None, {})


@both
def test_one_that_can_not_be_read_is_lost(world: World, emulator: Emulator, deferrable: bool) -> None:
    emulator.faults.add("garble_event", action="TASK_SUCCEED")
    job_id = world.submit("sleep 1", "TASK_SUCCEED")
    assert run(sensor("TASK_SUCCEED", job_id=job_id, task_name="main", deferrable=deferrable))[0]["heard"] is False


@both
def test_a_state_that_was_passed(world: World, deferrable: bool) -> None:
    job_id = world.submit("true")
    world.emulator.wait_job(job_id)
    found, xcoms = run(sensor(["JOB_RUNNING", "JOB_FAILED"], job_id=job_id, deferrable=deferrable))
    assert (found["name"], found["job_name"]) == ("JOB_RUNNING", "test")
    assert xcoms.keys() - {"tcbatch_wait"} == {"tcbatch_job_url"}


@both
def test_a_job_by_its_name_that_comes_later(world: World, deferrable: bool) -> None:
    with ThreadPoolExecutor(1) as pool:
        part = sensor("TASK_INSTANCE_SUCCEED", job_name=world.token, task_name="main", deferrable=deferrable)
        running = pool.submit(run, part)
        job_id = world.submit("true", job_name=world.token)
        assert running.result(timeout=60)[0]["job_id"] == job_id
    assert run(sensor("JOB_SUCCEED", job_name=world.token, deferrable=deferrable))[0]["job_id"] == job_id


@both
def test_an_environment_by_its_name(world: World, deferrable: bool) -> None:
    env_id = world.make_env()
    found, xcoms = run(sensor("COMPUTE_ENV_CREATED", env_name=world.token, deferrable=deferrable))
    assert (found["env_id"], found["env_name"]) == (env_id, world.token)
    assert xcoms.keys() - {"tcbatch_wait"} == {"tcbatch_env_url"}
    world.hook.delete_compute_env(env_id)
    assert run(sensor("COMPUTE_ENV_DELETED", env_name=world.token, deferrable=deferrable))[0]["env_id"] is None


def test_a_heard_event_does_not_wait_for_the_next_look(world: World) -> None:
    job_id = world.submit("sleep 2", "TASK_INSTANCE_SUCCEED")
    begun = time.monotonic()
    waiting = sensor(
        "TASK_INSTANCE_SUCCEED",
        job_id=job_id,
        task_name="main",
        task_instance_index=[0],
        deferrable=True,
        poke_interval=600,
        timeout=300,
    )
    found, _ = run(waiting)
    assert found["task_instance_index"] == 0
    assert time.monotonic() - begun < 250


# -- what does not come ----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("soft", [{}, {"soft_fail": True}, {"never_fail": True}], ids=["fails", "soft", "never"])
@pytest.mark.parametrize("name", ["JOB_SUCCEED", "TASK_SUCCEED", "TASK_INSTANCE_SUCCEED"])
def test_it_fails_as_soon_as_the_event_can_not_come(
    world: World, deferrable: bool, soft: dict[str, bool], name: str
) -> None:
    job_id = world.submit("sleep 1; echo no such file >&2; exit 3")
    part = {} if name == "JOB_SUCCEED" else {"task_name": "main"}
    waiting = sensor(name, job_id=job_id, deferrable=deferrable, **part, **soft)
    if soft:
        with pytest.raises(AirflowSkipException):
            run(waiting)
        return
    with pytest.raises(e.JobFailed, match=f"{name} can't come any more") as caught:
        run(waiting)
    assert "no such file" in str(caught.value)
    assert caught.value.exit_codes == (3,)


@both
def test_a_job_that_ends_well_instead(world: World, deferrable: bool) -> None:
    job_id = world.submit("true")
    with pytest.raises(e.JobError, match="is SUCCEED, and JOB_FAILED can't come any more") as caught:
        run(sensor("JOB_FAILED", job_id=job_id, deferrable=deferrable))
    assert not isinstance(caught.value, e.JobFailed)


@both
def test_one_of_several_kinds_is_enough(world: World, deferrable: bool) -> None:
    """The job can't succeed any more; its task has failed, which was waited for, too."""
    job_id = world.submit("exit 1")
    waiting = sensor(["TASK_SUCCEED", "TASK_FAILED"], job_id=job_id, task_name="main", deferrable=deferrable)
    assert run(waiting)[0]["name"] == "TASK_FAILED"


@both
def test_a_job_that_fails_although_its_variables_must_be_heard(world: World, deferrable: bool) -> None:
    job_id = world.submit("exit 1")
    with pytest.raises(e.JobFailed, match="JOB_SUCCEED can't come"):
        run(sensor("JOB_SUCCEED", job_id=job_id, variables={"team": "etl"}, deferrable=deferrable))


@both
def test_a_state_does_not_tell_variables(world: World, deferrable: bool) -> None:
    job_id = world.submit("true")
    world.emulator.wait_job(job_id)
    with pytest.raises(AirflowSensorTimeout, match=r"Event JOB_SUCCEED of job job-.* with team=etl did not come true"):
        run(sensor("JOB_SUCCEED", job_id=job_id, variables={"team": "etl"}, deferrable=deferrable, timeout=2))


@both
@pytest.mark.parametrize("soft", [False, True], ids=["fails", "skips"])
def test_timeout(world: World, deferrable: bool, soft: bool) -> None:
    job_id = world.submit("sleep 600")
    for chosen in ({"job_id": job_id}, {"variables": {"run": world.token}}):
        with pytest.raises(AirflowSkipException if soft else AirflowSensorTimeout):
            run(sensor("JOB_SUCCEED", **chosen, deferrable=deferrable, timeout=1.5, soft_fail=soft))


@both
def test_what_does_not_exist(world: World, deferrable: bool) -> None:
    job_id = world.submit("sleep 600")
    with pytest.raises(e.NotFound, match="no task 'other'"):
        run(sensor("TASK_FAILED", job_id=job_id, task_name="other", deferrable=deferrable))
    with pytest.raises(e.NotFound):
        run(sensor("COMPUTE_ENV_CREATED", env_id="env-00000000", deferrable=deferrable))


@both
def test_an_environment_that_is_being_deleted(world: World, emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(env_deleting_seconds=60)
    env_id = world.make_env()
    world.hook.delete_compute_env(env_id)
    with pytest.raises(e.ComputeEnvError, match="is being deleted, and COMPUTE_NODE_RUNNING can't come any more"):
        run(sensor("COMPUTE_NODE_RUNNING", env_id=env_id, deferrable=deferrable))


# -- who can hear ----------------------------------------------------------------------------------------


@both
def test_a_shared_queue(world: World, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, deferrable: bool) -> None:
    """The triggerer reads it and takes what is waited for; a worker makes a queue of its own."""
    cmq, queue = CmqHook(), f"shared-{world.token}"
    cmq.ensure_queue(queue, visibility_timeout=1)
    cmq.ensure_subscription(world.topic, queue)
    change_connection(monkeypatch, emulator, event_queue=queue)
    try:
        waiting = sensor("JOB_FAILED", variables={"run": world.token}, deferrable=deferrable)
        if deferrable:
            # The queue has been there all the time: nothing is missed.
            world.happen("JOB_FAILED")
            found = run(waiting)[0]
            assert not cmq.receive(queue, wait=2), "what was waited for is taken"
        else:
            found = world.listened_to(waiting, lambda: world.happen("JOB_FAILED"))
            assert cmq.receive(queue, wait=2)
        assert found["job_id"] == world.jobs[0]
    finally:
        cmq.remove_subscription(world.topic, queue)
        cmq.remove_queue(queue)


@both
def test_without_a_topic_only_states_can_be_waited_for(
    world: World, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    change_connection(monkeypatch, emulator, event_topic="")
    job_id = world.submit("sleep 1")
    assert run(sensor("JOB_SUCCEED", job_id=job_id, deferrable=deferrable))[0]["name"] == "JOB_SUCCEED"
    with pytest.raises(e.ConfigurationError, match="JOB_FAILED must be heard; set field event_topic of connection"):
        run(sensor("JOB_FAILED", deferrable=deferrable))


@both
def test_who_may_make_no_queue_hears_nothing(world: World, emulator: Emulator, deferrable: bool) -> None:
    emulator.faults.add("error", action="CreateCmqQueue", code="UnauthorizedOperation.CamNoAuth")
    with pytest.raises(e.JobError, match="JOB_FAILED must be heard, and no event can be"):
        run(sensor("JOB_FAILED", deferrable=deferrable))


def test_who_is_killed_takes_the_queue_along(world: World) -> None:
    waiting = sensor("JOB_FAILED", variables={"run": world.token}, deferrable=False)
    with pytest.raises(e.TCBatchError, match="'sense' was ended while it waited for JOB_FAILED"):
        world.listened_to(waiting, waiting.on_kill)
    assert not world.own_queues
    waiting.on_kill()  # again, when there is no wait any more


def test_reschedule_looks_and_does_not_listen(world: World) -> None:
    waiting = sensor("TASK_RUNNING", job_id=world.submit("sleep 600"), task_name="main", mode="reschedule")
    context = Task().next_try()
    assert waiting.reschedule
    soon(lambda: waiting.poke(context))
    assert not world.own_queues


# -- without a worker ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [False, True], ids=["ended by a worker", "ended by the trigger"])
def test_it_begins_in_the_triggerer(world: World, ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: dict[str, Any] = {}

    async def push(ti: Any, xcoms: Mapping[str, Any], timeout_at: float | None) -> None:
        pushed.update(xcoms)

    monkeypatch.setattr(observing, "push_xcoms", push)  # it takes a triggerer
    with DAG("waits", schedule=None):
        variables = {"run": "{{ dag_run.conf.token }}"}
        waiting = sensor("JOB_FAILED", variables=variables, start_from_trigger=True, end_from_trigger=ends)
    trigger = start_trigger(waiting, {"token": world.token})

    async def only_event() -> Any:
        [event] = [event async for event in trigger.run()]
        return event

    event = world.ended(lambda: asyncio.run(only_event()), lambda: world.happen("JOB_FAILED"))
    if ends:
        assert isinstance(event, TaskSuccessEvent)
        found, xcoms = pushed["return_value"], pushed
    else:
        context = Task().next_try()
        found = waiting.resume_execution("execute_complete", {"event": event.payload}, context)
        xcoms = instance_in(context).xcoms
    assert (found["job_id"], found["heard"]) == (world.jobs[0], True)
    assert xcoms["tcbatch_job_url"] == world.hook.settings.job_url(world.jobs[0])
    wait = xcoms["tcbatch_wait"]
    assert (wait["status"], wait["source"]) == ("reached", "event")
    assert wait["event_received_at"] <= wait["observed_at"]


# -- when the DAG is parsed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"event_names": []}, "event_names is empty"),
        ({"event_names": "JOB_DONE"}, "JOB_DONE is no event of Batch"),
        ({"event_names": "JOB_FAILED", "job_id": "job-1", "job_name": "a"}, "job_id or job_name, and not both"),
        ({"event_names": "COMPUTE_ENV_CREATED", "task_name": "a"}, "COMPUTE_ENV_CREATED can't be chosen by task_name"),
        ({"event_names": ["JOB_FAILED", "TASK_FAILED"], "task_name": "a"}, "JOB_FAILED can't be chosen by task_name"),
        ({"event_names": "COMPUTE_NODE_ABNORMAL", "job_id": "job-1"}, "or give variables that its job publishes it"),
        ({"event_names": "TASK_INSTANCE_FAILED", "task_instance_index": 1}, "needs task_name"),
        ({"event_names": "TASK_INSTANCE_FAILED", "task_name": "a", "task_instance_index": -1}, "index from 0"),
        ({"event_names": "TASK_INSTANCE_FAILED", "task_name": "a", "task_instance_index": []}, "index is empty"),
        ({"event_names": "JOB_FAILED", "job_id": " "}, "job_id is ' '"),
        ({"event_names": "JOB_FAILED", "variables": {"n": 5}}, "EventVars are texts"),
        ({"event_names": "JOB_FAILED", "variables": "a=b"}, "write texts by name"),
        (
            {"event_names": "JOB_FAILED", "mode": "reschedule"},
            "nobody listens between two looks; write deferrable=True",
        ),
        (
            {"event_names": "COMPUTE_NODE_DELETING", "env_id": "env-1", "mode": "reschedule"},
            "COMPUTE_NODE_DELETING must be heard",
        ),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(given: dict[str, Any], words: str) -> None:
    with pytest.raises(e.InvalidRequest, match=words):
        sensor(**given)


def test_what_is_known_later_is_not_judged_early() -> None:
    later = "{{ ti.xcom_pull('submit') }}"
    waiting = sensor(
        "TASK_INSTANCE_FAILED",
        job_id=later,
        task_name=later,
        task_instance_index=later,
        variables={"run": "{{ run_id }}"},
    )
    assert waiting.job_id == later
    assert sensor("JOB_FAILED", job_id=later, mode="reschedule").mode == "reschedule"
    assert sensor("JOB_FAILED", mode="reschedule", deferrable=True).deferrable
