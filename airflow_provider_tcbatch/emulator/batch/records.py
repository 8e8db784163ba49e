"""What is written down of jobs, environments and templates."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

from airflow_provider_tcbatch.emulator.batch.envs.entities import Activity, ComputeEnv, Node
from airflow_provider_tcbatch.emulator.batch.jobs.entities import Instance, Job, Task
from airflow_provider_tcbatch.emulator.batch.machine.catalog import Family, MachineType
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.batch.templates.entities import Template
from airflow_provider_tcbatch.emulator.persistence.database import Row
from airflow_provider_tcbatch.emulator.persistence.members import members

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


class BatchRecords:
    """Makes records of what Batch has.

    :param batch: the service.
    """

    def __init__(self, batch: BatchService) -> None:
        self._batch = batch
        #: Jobs whose request is written down; it does not change.
        self._written: set[str] = set()
        self.makers: dict[type, Callable[[Any], Iterator[Row]]] = {
            Job: self._job,
            Task: self._task,
            Instance: self._instance,
            Template: self._template,
            ComputeEnv: self._env,
            Node: self._node,
            Activity: self._activity,
        }

    def distrust(self) -> None:
        """Nothing that was to be written last is sure to be."""
        self._written.clear()

    def known(self, job_id: str) -> None:
        """The request of this job was read."""
        self._written.add(job_id)

    def _job(self, job: Job) -> Iterator[Row]:
        if self._batch.jobs.get(job.job_id) is not job:
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
        if self._batch.jobs.get(job.job_id) is job:
            yield "task", f"{job.job_id}/{json.dumps(task.name)}", members(task, TASK)

    def _instance(self, instance: Instance) -> Iterator[Row]:
        task, job = instance.task, instance.task.job
        # RetryJobs replaces instances.
        if self._batch.jobs.get(job.job_id) is job and task.instances[instance.index] is instance:
            value = members(instance, INSTANCE)
            value["machine"] = machine_record(instance.machine)
            if instance.compute_node is not None:
                value["compute_node"] = instance.compute_node.node_id
            yield "instance", f"{job.job_id}/{instance.index}/{json.dumps(task.name)}", value

    def _template(self, template: Template) -> Iterator[Row]:
        kept = self._batch.templates.get(template.template_id) is template
        yield "template", template.template_id, members(template, TEMPLATE) if kept else None

    def _env(self, env: ComputeEnv) -> Iterator[Row]:
        if self._batch.envs.get(env.env_id) is env:
            yield "env", env.env_id, {**members(env, ENV), "addresses": env.addresses}
            return
        yield "env", env.env_id, None
        yield "node", f"{env.env_id}/", None
        yield "activity", f"{env.env_id}/", None

    def _node(self, node: Node) -> Iterator[Row]:
        env = node.env
        kept = self._batch.envs.get(env.env_id) is env and env.nodes.get(node.node_id) is node
        value = {**members(node, NODE), "machine": machine_record(node.machine)} if kept else None
        yield "node", f"{env.env_id}/{node.node_id}", value

    def _activity(self, activity: Activity) -> Iterator[Row]:
        if activity.env_id in self._batch.envs:
            yield "activity", f"{activity.env_id}/{activity.activity_id}", members(activity, ACTIVITY)


def machine_record(machine: MachineType | None) -> dict[str, Any] | None:
    """A machine type as it is written down."""
    return None if machine is None else dataclasses.asdict(machine)


def machine_of(record: dict[str, Any] | None) -> MachineType | None:
    """A machine type as it was written down."""
    if record is None:
        return None
    family = Family(**{**record["family"], "sizes": tuple(record["family"]["sizes"])})
    return MachineType(**{**record, "family": family})
