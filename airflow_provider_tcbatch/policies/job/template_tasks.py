"""Tasks of a job that are given by a task template and overrides. Pure, on wire JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.job import Task
from airflow_provider_tcbatch.models.wire import with_placeholders
from airflow_provider_tcbatch.policies.task_template.overrides import merge, without_nulls

__all__ = ["TemplateTask", "check_part", "filled", "stand_in", "template_tasks", "with_wire_names", "without_templates"]

_ID, _NAME = "TaskTemplateId", "TaskTemplateName"

#: A task of a job may name its template in Python's spelling, too; the API has no such fields in a task.
_SPELLINGS = {"task_template_id": _ID, "task_template_name": _NAME}


@dataclass(frozen=True)
class TemplateTask:
    """A task that comes from a template.

    :param number: its place in the job.
    :param template_id: id of the template; or
    :param template_name: its name.
    :param overrides: what is put onto the template's content.
    """

    number: int
    template_id: Any
    template_name: Any
    overrides: Mapping[str, Any] = field(repr=False)

    @property
    def path(self) -> str:
        """Where it stands, for messages."""
        return f"Job.Tasks[{self.number}]"

    def __str__(self) -> str:
        return f"{self.path} from task template {self.template_id or self.template_name!r}"


def with_wire_names(job: Any) -> Any:
    """A job whose tasks name their templates in the wire's spelling.

    :param job: a job in wire JSON otherwise.
    """
    tasks = job.get("Tasks") if isinstance(job, Mapping) else None
    if not isinstance(tasks, list) or not any(
        isinstance(task, Mapping) and task.keys() & _SPELLINGS.keys() for task in tasks
    ):
        return job
    return {
        **job,
        "Tasks": [
            {_SPELLINGS.get(name, name): value for name, value in task.items()} if isinstance(task, Mapping) else task
            for task in tasks
        ],
    }


def template_tasks(job: Any) -> Iterator[TemplateTask]:
    """The tasks of a job that name a template.

    :param job: a job in wire JSON.
    :raises InvalidRequest: if one names two.
    """
    tasks = job.get("Tasks") if isinstance(job, Mapping) else None
    for number, task in enumerate(tasks if isinstance(tasks, list) else ()):
        if not isinstance(task, Mapping) or not task.keys() & {_ID, _NAME}:
            continue
        template_id, name = task.get(_ID), task.get(_NAME)
        path = f"Job.Tasks[{number}]"
        if (template_id is None) == (name is None):
            nothing, both = f"{_ID} (or {_NAME}) is empty", f"{_ID} and {_NAME} exclude one another; keep one of them"
            problem = f"{path}: {nothing if name is None else both}"
            raise InvalidRequest(f"Invalid Job: {problem}", problems=[problem])
        overrides = {field: value for field, value in task.items() if field not in (_ID, _NAME)}
        yield TemplateTask(number, template_id, name, overrides)


def check_part(task: TemplateTask, known_later: Callable[[Any], bool]) -> None:
    """Check the overrides as far as that can be done without the template.

    :param known_later: whether a value is only known at run time.
    :raises InvalidRequest: naming what is wrong.
    """
    for name, value in ((_ID, task.template_id), (_NAME, task.template_name)):
        if value is not None and not known_later(value) and not (isinstance(value, str) and value.strip()):
            problem = f"{task.path}.{name}: must be a string that is not empty"
            raise InvalidRequest(f"Invalid Job: {problem}", problems=[problem])
    part = with_placeholders(Task, without_nulls(task.overrides), known_later)
    Task.check_part(part, at=task.path)


def stand_in(task: TemplateTask) -> dict[str, Any]:
    """A valid task in the place of one whose template is not known: for the rules between tasks."""
    name = task.overrides.get("TaskName")
    return {
        # Without a name of its own it has one that is only known at run time.
        "TaskName": f"{{{{ {task.path} }}}}" if name is None else name,
        "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
        "EnvId": "env-00000000",
    }


def without_templates(job: Mapping[str, Any], tasks: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The job with other tasks in the places of some of its own.

    :param tasks: by their place in the job.
    """
    return {**job, "Tasks": [tasks.get(number, task) for number, task in enumerate(job["Tasks"])]}


def filled(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A template's content with overrides put onto it.

    What the service shows for fields that were never set is not documented: an empty field counts as none.
    """
    return merge({name: value for name, value in content.items() if value not in (None, "", [], {})}, overrides)
