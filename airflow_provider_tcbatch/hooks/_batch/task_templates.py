"""Task templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch import models
from airflow_provider_tcbatch.hooks._batch.base import BatchHookBase
from airflow_provider_tcbatch.models.job import Tag, Task
from airflow_provider_tcbatch.models.request import PAGE, Filters, filters_of, portions

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.template_actions import TaskTemplateView

__all__ = ["TaskTemplateMethods"]

#: Most values that a filter of a request is given.
_FILTER_VALUES = 5


class TaskTemplateMethods(BatchHookBase):
    """Methods for task templates."""

    def create_task_template(
        self,
        name: str,
        task: Task | Mapping[str, Any],
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Keep a task as a template and return the template's id.

        :param name: at most 60 characters.
        :param task: the task, as a model or as a mapping in either spelling.
        :param description: at most 200 characters.
        :param tags: at most 10.
        """
        request = models.template_actions.CreateTaskTemplate(
            task_template_name=name,
            task_template_info=_task(task),
            task_template_description=description,
            tags=[Tag(key=key, value=value) for key, value in (tags or {}).items()] or None,
        )
        return self.api.call(request).task_template_id

    def describe_task_templates(
        self, task_template_ids: Sequence[str] | None = None, filters: Filters | None = None
    ) -> Iterator[TaskTemplateView]:
        """Iterate over templates, by id or by filter.

        :param task_template_ids: any number of ids.
        :param filters: values by filter name (``task-template-name``, ``tag-key`` ...).
        """
        if task_template_ids is not None:
            for ids in portions(task_template_ids):
                request = models.template_actions.DescribeTaskTemplates(task_template_ids=ids, limit=PAGE)
                yield from self.api.call(request).task_template_set
            return
        for page in self.api.pages(models.template_actions.DescribeTaskTemplates(filters=filters_of(filters)), PAGE):
            yield from page.task_template_set

    def task_templates_named(self, names: Sequence[str]) -> dict[str, list[TaskTemplateView]]:
        """Templates by name, the oldest of a name first: nothing says that the service keeps names apart.

        :param names: whole names; those that no template has are left out of the answer.
        """
        wanted = list(dict.fromkeys(names))
        # How many values a filter may have is not documented. An account has at most 50 templates.
        filters = {"task-template-name": wanted} if len(wanted) <= _FILTER_VALUES else None
        found: dict[str, list[TaskTemplateView]] = {}
        for view in self.describe_task_templates(filters=filters) if wanted else ():
            # Nor whether the filter wants the whole name.
            if view.task_template_name in wanted:
                found.setdefault(view.task_template_name, []).append(view)
        return {name: sorted(views, key=_age) for name, views in found.items()}

    def modify_task_template(
        self,
        task_template_id: str,
        *,
        name: str | None = None,
        task: Task | Mapping[str, Any] | None = None,
        description: str | None = None,
    ) -> None:
        """Change a template; what is not given stays, at least one must be given."""
        request = models.template_actions.ModifyTaskTemplate.parse(
            {
                "TaskTemplateId": task_template_id,
                "TaskTemplateName": name,
                "TaskTemplateInfo": None if task is None else _task(task),
                "TaskTemplateDescription": description,
            }
        )
        self.api.call(request)

    def delete_task_templates(self, task_template_ids: Sequence[str]) -> None:
        """Delete templates, any number of them."""
        for ids in portions(task_template_ids):
            self.api.call(models.template_actions.DeleteTaskTemplates(task_template_ids=ids))


def _age(view: TaskTemplateView) -> tuple[str, str]:
    # The service writes times in two ways, which have their digits in common.
    return "".join(sign for sign in view.create_time or "" if sign.isdigit())[:14], view.task_template_id


def _task(task: Task | Mapping[str, Any]) -> Task:
    return task if isinstance(task, Task) else Task.parse(task, at="TaskTemplateInfo")
