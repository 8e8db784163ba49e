"""Task templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_tcbatch.hooks.batch_base import PAGE, BatchHookBase, Filters, filters_of, portions
from airflow_provider_tcbatch.models.job import Tag, Task
from airflow_provider_tcbatch.models.template_actions import (
    CreateTaskTemplate,
    DeleteTaskTemplates,
    DescribeTaskTemplates,
    ModifyTaskTemplate,
    TaskTemplateView,
)

__all__ = ["TaskTemplateMethods"]


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
        request = CreateTaskTemplate(
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
                request = DescribeTaskTemplates(task_template_ids=ids, limit=PAGE)
                yield from self.api.call(request).task_template_set
            return
        for page in self.api.pages(DescribeTaskTemplates(filters=filters_of(filters)), PAGE):
            yield from page.task_template_set

    def modify_task_template(
        self,
        task_template_id: str,
        *,
        name: str | None = None,
        task: Task | Mapping[str, Any] | None = None,
        description: str | None = None,
    ) -> None:
        """Change a template; what is not given stays, at least one must be given."""
        request = ModifyTaskTemplate.parse(
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
            self.api.call(DeleteTaskTemplates(task_template_ids=ids))


def _task(task: Task | Mapping[str, Any]) -> Task:
    return task if isinstance(task, Task) else Task.parse(task, at="TaskTemplateInfo")
