"""Actions on task templates: tasks that are kept on the service under a name."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from airflow_provider_tcbatch.models.answers import Echo, Listing
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.job import Tag, Task
from airflow_provider_tcbatch.models.request import Action, Filter, Page, Result

__all__ = [
    "CreateTaskTemplate",
    "CreateTaskTemplateResult",
    "DeleteTaskTemplates",
    "DeleteTaskTemplatesResult",
    "DescribeTaskTemplates",
    "DescribeTaskTemplatesResult",
    "ModifyTaskTemplate",
    "ModifyTaskTemplateResult",
    "TaskTemplateView",
]


def _at_most(size: int) -> AfterValidator:
    def check(text: str) -> str:
        if (length := len(text.encode())) > size:
            raise ValueError(f"must have at most {size} bytes in UTF-8; it has {length}")
        return text

    return AfterValidator(check)


class CreateTaskTemplateResult(Result):
    """Answer of CreateTaskTemplate."""

    task_template_id: str


class CreateTaskTemplate(Action[CreateTaskTemplateResult]):
    """Keep a task as a template. Not repeatable: nothing says that a second one of the same name is refused.

    :param task_template_name: at most 60 characters.
    :param task_template_description: at most 200 characters.
    :param tags: at most 10.
    """

    repeatable: ClassVar[bool] = False

    task_template_name: str = Field(max_length=60)
    task_template_info: Task
    task_template_description: str | None = Field(default=None, max_length=200)
    tags: list[Tag] | None = Field(default=None, max_length=10)


class ModifyTaskTemplateResult(Result):
    """Answer of ModifyTaskTemplate."""


class ModifyTaskTemplate(Action[ModifyTaskTemplateResult]):
    """Change a template: name, description, content, at least one of them.

    Repeating is harmless: what is given replaces what was there. Lengths are counted in bytes here, and in characters
    when a template is made.

    :param task_template_name: at most 60 bytes.
    :param task_template_description: at most 200 bytes.
    """

    task_template_id: str
    task_template_name: Annotated[str, _at_most(60)] | None = None
    task_template_description: Annotated[str, _at_most(200)] | None = None
    task_template_info: Task | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        given = (self.task_template_name, self.task_template_description, self.task_template_info)
        if all(value is None for value in given):
            raise ValueError(
                "at least one of TaskTemplateName, TaskTemplateDescription and TaskTemplateInfo is required"
            )
        return self


class DeleteTaskTemplatesResult(Result):
    """Answer of DeleteTaskTemplates."""


class DeleteTaskTemplates(Action[DeleteTaskTemplatesResult]):
    """Delete at most 100 templates.

    Repeating is harmless: ids are not used again, a second deletion is answered with ResourceNotFound.TaskTemplate.
    """

    task_template_ids: list[str] = Field(max_length=100)


class TaskTemplateView(ApiModel):
    """A task template."""

    task_template_id: str
    task_template_name: str | None = None
    task_template_description: str | None = None
    task_template_info: Echo[Task] | None = None
    create_time: str | None = None
    tags: list[Echo[Tag]] | None = None


class DescribeTaskTemplatesResult(Result):
    """Answer of DescribeTaskTemplates."""

    task_template_set: Listing[TaskTemplateView]
    total_count: int | None = None


class DescribeTaskTemplates(Action[DescribeTaskTemplatesResult]):
    """Many templates, by id (at most 100) or by filter.

    :param filters: ``task-template-name``, ``tag-key``, ``tag-value``, ``tag:<key>``.
    :param limit: service default 20, 1 to 100.
    """

    task_template_ids: list[str] | None = Field(default=None, max_length=100)
    filters: list[Filter] | None = None
    offset: Page | None = None
    limit: int | None = Field(default=None, ge=1, le=100)

    @model_validator(mode="after")
    def _ids_or_filters(self) -> Self:
        self._exclusive("task_template_ids", "filters")
        return self
