"""Reading what an emulator before this one left, and going on with it.

What ended stays as it was; what waited goes on; what was STARTING or RUNNING lost its machine with that emulator: the
attempt fails as with the fault ``lose_machine``, and is made again as often as MaxRetryCount allows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch import env_actions, nodes, scheduler
from airflow_provider_tcbatch.emulator.batch.actions import job_of
from airflow_provider_tcbatch.emulator.batch.entities import Instance, Job
from airflow_provider_tcbatch.emulator.batch.env_entities import Activity, ComputeEnv, Node
from airflow_provider_tcbatch.emulator.batch.paths import folder_name
from airflow_provider_tcbatch.emulator.batch.publish import subscribers
from airflow_provider_tcbatch.emulator.batch.state import Template
from airflow_provider_tcbatch.emulator.cmq.entities import Message, Queue, Subscription, Topic
from airflow_provider_tcbatch.emulator.persistence.database import Database
from airflow_provider_tcbatch.emulator.persistence.records import Records, machine_of

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.core import Core


def restore(core: Core, database: Database, records: Records) -> None:
    """Fill an emulator that has just been made, and let everything go on."""
    _queues(core, database)
    for _, value in database.read("template"):
        core.batch.templates[value["template_id"]] = Template(**value)
    _envs(core, database)
    _jobs(core, database, records)
    for kind, tokens in (("job_token", core.client_tokens), ("env_token", core.batch.env_tokens)):
        for name, (made, digest, time) in database.read(kind):
            tokens[json.loads(name)] = (made, digest, time)
    # Nodes first: what ran on one is lost with it.
    for env in list(core.batch.envs.values()):
        for node in list(env.nodes.values()):
            nodes.resume(core, node)
        if env.next_action:
            env_actions.resume_deletion(core, env)
    for job in list(core.jobs.values()):
        scheduler.resume_job(core, job)


# -- CMQ -----------------------------------------------------------------------------------------------------


def _queues(core: Core, database: Database) -> None:
    broker = core.broker
    by_id: dict[str, Queue] = {}
    for queue_id, value in database.read("queue"):
        by_id[queue_id] = broker.queues[value["name"].lower()] = Queue(**value)
    for _, value in database.read("topic"):
        subscriptions = [_subscription(item) for item in value.pop("subscriptions")]
        topic = Topic(**value, subscriptions={item.name: item for item in subscriptions})
        broker.topics[topic.name.lower()] = topic
    messages: dict[str, list[Message]] = {}
    for name, value in database.read("message"):
        queue_id, _, row = name.partition("/")
        message = Message(**{**value, "tags": tuple(value["tags"]), "row": int(row)})
        messages.setdefault(queue_id, []).append(message)
    for queue_id, found in messages.items():
        if queue_id in by_id:
            broker.resume(by_id[queue_id], found)


def _subscription(value: dict[str, Any]) -> Subscription:
    tags, keys = tuple(value["filter_tags"]), tuple(value["binding_keys"])
    return Subscription(**{**value, "filter_tags": tags, "binding_keys": keys})


# -- compute environments ------------------------------------------------------------------------------------


def _envs(core: Core, database: Database) -> None:
    envs = core.batch.envs
    for env_id, value in database.read("env"):
        envs[env_id] = ComputeEnv(**value, notifications=subscribers(core, value["request"]["ComputeEnv"]))
    for name, value in database.read("node"):
        env = envs[name.partition("/")[0]]
        node = Node(**{**value, "env": env, "machine": machine_of(value["machine"])})
        env.nodes[node.node_id] = node
    for name, value in database.read("activity"):
        env = envs[name.partition("/")[0]]
        env.activities[value["activity_id"]] = Activity(**value, env_id=env.env_id)


# -- jobs ----------------------------------------------------------------------------------------------------


def _jobs(core: Core, database: Database, records: Records) -> None:
    for job_id, (request, region, created_at) in database.read("job"):
        core.jobs[job_id] = job_of(core, job_id, request, region, created_at)
        records.known(job_id)
    for job_id, value in database.read("job_state"):
        _fill(core.jobs[job_id], value)
    for name, value in database.read("task"):
        job_id, _, task_name = name.partition("/")
        _fill(core.jobs[job_id].tasks[json.loads(task_name)], value)
    by_node = {node.node_id: node for env in core.batch.envs.values() for node in env.nodes.values()}
    for name, value in database.read("instance"):
        job_id, index, task_name = name.split("/", 2)
        task = core.jobs[job_id].tasks[json.loads(task_name)]
        instance = task.instances[int(index)]
        value["machine"] = machine_of(value["machine"])
        node = by_node.get(value.pop("compute_node", ""))
        _fill(instance, value)
        if node is not None:
            instance.compute_node, node.instance = node, instance
        folder = task.job.folder / folder_name(task.name) / index / str(instance.folders)
        instance.folder = folder if folder.is_dir() else None
    for job in core.jobs.values():
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
