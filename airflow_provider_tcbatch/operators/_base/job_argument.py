"""The ``job`` argument, of which tasks may come from task templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.job import Job, Task
from airflow_provider_tcbatch.models.wire import WireForm, with_placeholders
from airflow_provider_tcbatch.operators._base.object_argument import TakesObject, known_later, mask_secrets_of
from airflow_provider_tcbatch.policies.job.template_tasks import (
    TemplateTask,
    check_part,
    filled,
    stand_in,
    template_tasks,
    with_wire_names,
    without_templates,
)
from airflow_provider_tcbatch.policies.task_template.overrides import unreadable_secrets

__all__ = ["TakesJob", "known_later"]


class TakesJob(TakesObject):
    """Base of operators with a ``job``, which they hand to :meth:`take`.

    It is a :class:`~airflow_provider_tcbatch.models.job.Job`, a dictionary in either spelling, JSON or YAML text, or
    the path of a template file. A task of it may be given by a task template.
    """

    argument: ClassVar[str] = "job"
    model: ClassVar[type[ApiModel]] = Job
    written_as: ClassVar[str] = "a mapping with Tasks in it"
    request_field: ClassVar[str] = "Job"
    request_parts: ClassVar[Mapping[str, str]] = MappingProxyType({"Placement": "placement"})

    job: Any

    #: Ids of the task templates that the job was made with, once it has been made.
    _template_ids: Sequence[str] = ()

    def wire_form(self, value: Any) -> WireForm:
        """As for every object; templates may be named in either spelling, too."""
        form = super().wire_form(value)
        form.data = with_wire_names(form.data)
        return form

    def check_early(self, wire: Any) -> None:
        """Check the job; of tasks from templates, only what is given here."""
        tasks = list(template_tasks(wire))
        for task in tasks:
            check_part(task, known_later)
        if tasks:
            wire = without_templates(wire, {task.number: stand_in(task) for task in tasks})
        Job.parse(with_placeholders(Job, wire, known_later), at="Job")

    def from_templates(self) -> list[TemplateTask]:
        """The tasks of the job, rendered, that come from task templates.

        :raises InvalidRequest: if something is wrong with what is given of them here.
        """
        return _checked(self.final_wire())

    def final_job(self) -> Job:
        """The job as it is sent: rendered, with what its templates hold, with its secrets, checked.

        Templates are read from the service each time.

        :raises InvalidRequest: naming what is wrong with it.
        :raises NotFound: if a template does not exist.
        """
        wire = self.final_wire()
        tasks = _checked(wire)
        if not tasks:
            return Job.parse(wire, at="Job")
        made = self._from_templates(tasks)
        try:
            return Job.parse(without_templates(wire, made), at="Job")
        except InvalidRequest as error:
            origin = ", ".join(map(str, tasks))
            raise InvalidRequest(f"{error}\n({origin})", problems=error.problems) from None

    def _from_templates(self, tasks: Sequence[TemplateTask]) -> dict[int, dict[str, Any]]:
        """The tasks in full, by their place in the job."""
        ids = [task.template_id for task in tasks if task.template_id is not None]
        names = [task.template_name for task in tasks if task.template_name is not None]
        by_id = {view.task_template_id: view for view in self.hook.describe_task_templates(list(dict.fromkeys(ids)))}
        by_name = self.hook.task_templates_named(names)
        made: dict[int, dict[str, Any]] = {}
        used: list[str] = []
        missing: list[str] = []
        for task in tasks:
            named = by_name.get(task.template_name, [])
            view = by_id.get(task.template_id) if task.template_name is None else next(iter(named), None)
            if view is None:
                missing.append(str(task))
                continue
            if len(named) > 1:
                others = ", ".join(other.task_template_id for other in named[1:])
                self.log.warning("%s: several have this name; taking the oldest, not %s", task, others)
            self.log.info("%s (%s)", task, view.task_template_id)
            content = {} if view.task_template_info is None else view.task_template_info.to_wire()
            # Rendered and checked like the job, but it never was in a template field.
            mask_secrets_of(Task, content)
            made[task.number] = filled(content, task.overrides)
            if hidden := unreadable_secrets(Task, made[task.number]):
                raise InvalidRequest(
                    f"{task}: the service shows {', '.join(hidden)} as stars only, so the job would be sent "
                    "without it: write it into the task"
                )
            used.append(view.task_template_id)
        if missing:
            region = self.hook.settings.api.region
            raise NotFound(f"In region {region} there is no such template: {'; '.join(missing)}")
        self._template_ids = list(dict.fromkeys(used))
        return made


def _checked(wire: Mapping[str, Any]) -> list[TemplateTask]:
    """The tasks of a job that come from templates; what is given of them is checked."""
    tasks = list(template_tasks(wire))
    for task in tasks:
        check_part(task, lambda value: False)
    return tasks
