"""Reading what an emulator before this one left, and going on with it.

What ended stays as it was; what waited goes on; what was STARTING or RUNNING lost its machine with that emulator: the
attempt fails as with the fault ``lose_machine``, and is made again as often as MaxRetryCount allows.
"""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_tcbatch.emulator.batch.envs import actions as env_actions
from airflow_provider_tcbatch.emulator.batch.envs import nodes
from airflow_provider_tcbatch.emulator.batch.envs.entities import Activity, ComputeEnv, Node
from airflow_provider_tcbatch.emulator.batch.jobs import scheduler
from airflow_provider_tcbatch.emulator.batch.jobs.actions import job_of
from airflow_provider_tcbatch.emulator.batch.jobs.entities import Instance, Job
from airflow_provider_tcbatch.emulator.batch.machine.paths import folder_name
from airflow_provider_tcbatch.emulator.batch.publication import subscribers
from airflow_provider_tcbatch.emulator.batch.records import BatchRecords, machine_of
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.batch.templates.entities import Template
from airflow_provider_tcbatch.emulator.persistence.database import Database


def restore(batch: BatchService, database: Database, records: BatchRecords) -> None:
    """Fill a service that has just begun, and let everything go on."""
    for _, value in database.read("template"):
        batch.templates[value["template_id"]] = Template(**value)
    _envs(batch, database)
    _jobs(batch, database, records)
    for kind, tokens in (("job_token", batch.job_tokens), ("env_token", batch.env_tokens)):
        for name, (made, digest, time) in database.read(kind):
            tokens[json.loads(name)] = (made, digest, time)
    # Nodes first: what ran on one is lost with it.
    for env in list(batch.envs.values()):
        for node in list(env.nodes.values()):
            nodes.resume(batch, node)
        if env.next_action:
            env_actions.resume_deletion(batch, env)
    for job in list(batch.jobs.values()):
        scheduler.resume_job(batch, job)


# -- compute environments ------------------------------------------------------------------------------------


def _envs(batch: BatchService, database: Database) -> None:
    envs = batch.envs
    for env_id, value in database.read("env"):
        envs[env_id] = ComputeEnv(**value, notifications=subscribers(batch.host, value["request"]["ComputeEnv"]))
    for name, value in database.read("node"):
        env = envs[name.partition("/")[0]]
        node = Node(**{**value, "env": env, "machine": machine_of(value["machine"])})
        env.nodes[node.node_id] = node
    for name, value in database.read("activity"):
        env = envs[name.partition("/")[0]]
        env.activities[value["activity_id"]] = Activity(**value, env_id=env.env_id)


# -- jobs ----------------------------------------------------------------------------------------------------


def _jobs(batch: BatchService, database: Database, records: BatchRecords) -> None:
    for job_id, (request, region, created_at) in database.read("job"):
        batch.jobs[job_id] = job_of(batch.host, job_id, request, region, created_at)
        records.known(job_id)
    for job_id, value in database.read("job_state"):
        _fill(batch.jobs[job_id], value)
    for name, value in database.read("task"):
        job_id, _, task_name = name.partition("/")
        _fill(batch.jobs[job_id].tasks[json.loads(task_name)], value)
    by_node = {node.node_id: node for env in batch.envs.values() for node in env.nodes.values()}
    for name, value in database.read("instance"):
        job_id, index, task_name = name.split("/", 2)
        task = batch.jobs[job_id].tasks[json.loads(task_name)]
        instance = task.instances[int(index)]
        value["machine"] = machine_of(value["machine"])
        node = by_node.get(value.pop("compute_node", ""))
        _fill(instance, value)
        if node is not None:
            instance.compute_node, node.instance = node, instance
        folder = task.job.folder / folder_name(task.name) / index / str(instance.folders)
        instance.folder = folder if folder.is_dir() else None
    for job in batch.jobs.values():
        _count(job)


def _fill(thing: Job | Instance | Any, value: dict[str, Any]) -> None:
    for name, member in value.items():
        setattr(thing, name, member)


def _count(job: Job) -> None:
    """Make out what follows from the states of a job's parts."""
    for task in job.tasks.values():
        task.counts.update(instance.state for instance in task.instances)
        job.counts[task.state] += 1
        if task.stranded:
            job.stranded[task.state] += 1
        if task.stranded or (task.final and task.over):
            task.ended.set()
    if job.final:
        job.ended.set()
