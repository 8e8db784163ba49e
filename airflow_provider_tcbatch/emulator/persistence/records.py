"""What is written down of jobs, environments, templates, queues and topics, and how it is read again."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.catalog import Family, MachineType
from airflow_provider_tcbatch.emulator.batch.entities import Instance, Job, Task
from airflow_provider_tcbatch.emulator.batch.env_entities import Activity, ComputeEnv, Node
from airflow_provider_tcbatch.emulator.batch.state import Template
from airflow_provider_tcbatch.emulator.cmq.entities import Message, Queue, Subscription, Topic
from airflow_provider_tcbatch.emulator.persistence.database import Row

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.core import Core

#: Members that are written down as they are.
JOB = ("state", "state_reason", "next_action", "ended_at", "retrying", "terminated", "stopped")
TASK = ("state", "created_at", "ended_at", "stopped", "stranded")
INSTANCE = (
    "state",
    "created_at",
    "launched_at",
    "running_at",
    "ended_at",
    "exit_code",
    "state_reason",
    "detailed_reason",
    "node",
    "attempts",
    "folders",
    "stop_reason",
    "machine_id",
)
TEMPLATE = ("template_id", "name", "description", "task", "tags", "created_at")
ENV = ("env_id", "request", "created_at", "name", "description", "desired", "data", "next_action", "changed_at")
NODE = ("node_id", "origin", "state", "instance_id", "address", "created_at", "retries")
ACTIVITY = (
    "activity_id",
    "node_id",
    "kind",
    "cause",
    "started_at",
    "state",
    "state_reason",
    "ended_at",
    "instance_id",
)
QUEUE = ("name", "queue_id", "created_at", "attributes", "tags", "modified_at")
TOPIC = ("name", "topic_id", "created_at", "attributes", "tags", "modified_at", "published")
SUBSCRIPTION = tuple(field.name for field in dataclasses.fields(Subscription))
MESSAGE = (
    "msg_id",
    "body",
    "enqueued_at",
    "tags",
    "handle",
    "first_dequeued_at",
    "visible_at",
    "dequeue_count",
    "kept_since",
    "place",
)


class Records:
    """Makes records of what has changed.

    :param core: the emulator.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        #: Jobs whose request is written down; it does not change.
        self._written: set[str] = set()
        self._makers: dict[type, Callable[[Any], Iterator[Row]]] = {
            Job: self._job,
            Task: self._task,
            Instance: self._instance,
            Template: self._template,
            ComputeEnv: self._env,
            Node: self._node,
            Activity: self._activity,
            Queue: self._queue,
            Topic: self._topic,
            Message: self._message,
        }

    def distrust(self) -> None:
        """Nothing that was to be written last is sure to be."""
        self._written.clear()

    def known(self, job_id: str) -> None:
        """The request of this job was read."""
        self._written.add(job_id)

    def rows_of(self, thing: Any) -> Iterator[Row]:
        """Records of a thing, without values when there is no such thing any more."""
        return self._makers[type(thing)](thing)

    def clocks(self) -> Iterator[Row]:
        """What the clocks show, if one has run ahead of the wall's."""
        shown = self._core.clock.elapsed, self._core.queue_clock.elapsed
        if max(shown) > time.time() + 1.0:
            yield "emulator", "clocks", shown

    def _job(self, job: Job) -> Iterator[Row]:
        if self._core.jobs.get(job.job_id) is not job:
            self._written.discard(job.job_id)
            yield "job", job.job_id, None
            yield "job_state", job.job_id, None
            yield "task", f"{job.job_id}/", None
            yield "instance", f"{job.job_id}/", None
            return
        if job.job_id not in self._written:
            yield "job", job.job_id, [job.request, job.region, job.created_at]
            self._written.add(job.job_id)
        yield "job_state", job.job_id, members(job, JOB)

    def _task(self, task: Task) -> Iterator[Row]:
        job = task.job
        if self._core.jobs.get(job.job_id) is job:
            yield "task", f"{job.job_id}/{json.dumps(task.name)}", members(task, TASK)

    def _instance(self, instance: Instance) -> Iterator[Row]:
        task, job = instance.task, instance.task.job
        # RetryJobs replaces instances.
        if self._core.jobs.get(job.job_id) is job and task.instances[instance.index] is instance:
            value = members(instance, INSTANCE)
            value["machine"] = machine_record(instance.machine)
            if instance.compute_node is not None:
                value["compute_node"] = instance.compute_node.node_id
            yield "instance", f"{job.job_id}/{instance.index}/{json.dumps(task.name)}", value

    def _template(self, template: Template) -> Iterator[Row]:
        kept = self._core.batch.templates.get(template.template_id) is template
        yield "template", template.template_id, members(template, TEMPLATE) if kept else None

    def _env(self, env: ComputeEnv) -> Iterator[Row]:
        if self._core.batch.envs.get(env.env_id) is env:
            yield "env", env.env_id, {**members(env, ENV), "addresses": env.addresses}
            return
        yield "env", env.env_id, None
        yield "node", f"{env.env_id}/", None
        yield "activity", f"{env.env_id}/", None

    def _node(self, node: Node) -> Iterator[Row]:
        env = node.env
        kept = self._core.batch.envs.get(env.env_id) is env and env.nodes.get(node.node_id) is node
        value = {**members(node, NODE), "machine": machine_record(node.machine)} if kept else None
        yield "node", f"{env.env_id}/{node.node_id}", value

    def _activity(self, activity: Activity) -> Iterator[Row]:
        if activity.env_id in self._core.batch.envs:
            yield "activity", f"{activity.env_id}/{activity.activity_id}", members(activity, ACTIVITY)

    def _queue(self, queue: Queue) -> Iterator[Row]:
        if self._core.broker.queue(queue.name) is queue:
            yield "queue", queue.queue_id, members(queue, QUEUE)
        else:
            yield "queue", queue.queue_id, None
            yield "message", f"{queue.queue_id}/", None

    def _topic(self, topic: Topic) -> Iterator[Row]:
        if self._core.broker.topic(topic.name) is topic:
            found = [members(item, SUBSCRIPTION) for item in topic.subscriptions.values()]
            yield "topic", topic.topic_id, {**members(topic, TOPIC), "subscriptions": found}
        else:
            yield "topic", topic.topic_id, None

    def _message(self, message: Message) -> Iterator[Row]:
        queue = message.queue
        if queue is not None and self._core.broker.queue(queue.name) is queue:
            value = members(message, MESSAGE) if message.place else None
            yield "message", f"{queue.queue_id}/{message.row}", value


def members(thing: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Some members of a thing by name."""
    return {name: getattr(thing, name) for name in names}


def machine_record(machine: MachineType | None) -> dict[str, Any] | None:
    """A machine type as it is written down."""
    return None if machine is None else dataclasses.asdict(machine)


def machine_of(record: dict[str, Any] | None) -> MachineType | None:
    """A machine type as it was written down."""
    if record is None:
        return None
    family = Family(**{**record["family"], "sizes": tuple(record["family"]["sizes"])})
    return MachineType(**{**record, "family": family})
