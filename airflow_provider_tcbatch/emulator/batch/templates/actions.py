"""The task template actions of the Batch API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.filters import Filters, in_order, page
from airflow_provider_tcbatch.emulator.batch.jobs.rules import check_task
from airflow_provider_tcbatch.emulator.batch.rules import check_length, check_not_both, check_tags
from airflow_provider_tcbatch.emulator.batch.templates.entities import Template
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.ids import iso, new_id
from airflow_provider_tcbatch.emulator.schema import printable

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService
    from airflow_provider_tcbatch.emulator.host import Host

Params = dict[str, Any]

_TEMPLATE_ID = re.compile(r"task-tmpl-[0-9a-z]+")


def create_task_template(batch: BatchService, params: Params) -> Params:
    """CreateTaskTemplate. An EnvId need not exist yet: the action has no code for that."""
    host = batch.host
    _check_name(host, params["TaskTemplateName"])
    check_length(params, "TaskTemplateName", 60, "InvalidParameter.TaskTemplateNameTooLong", "")
    check_length(params, "TaskTemplateDescription", 200, "InvalidParameter.TaskTemplateDescriptionTooLong", "")
    check_tags(params, "Tags")
    check_task(batch, params["TaskTemplateInfo"], "TaskTemplateInfo", env_must_exist=False)
    templates = batch.templates
    if len(templates) >= host.settings.task_template_quota:
        raise ApiError("LimitExceeded.TaskTemplateQuota", f"There are {len(templates)} task templates already.")
    template = Template(
        new_id("task-tmpl", templates),
        params["TaskTemplateName"],
        params.get("TaskTemplateDescription", ""),
        params["TaskTemplateInfo"],
        params.get("Tags", []),
        host.now(),
    )
    templates[template.template_id] = template
    host.ledger.touch(template)
    return {"TaskTemplateId": template.template_id}


def modify_task_template(batch: BatchService, params: Params) -> Params:
    """ModifyTaskTemplate; its limits are in bytes."""
    template = _find(batch, params["TaskTemplateId"])
    if not params.keys() & {"TaskTemplateName", "TaskTemplateDescription", "TaskTemplateInfo"}:
        raise ApiError(
            "InvalidParameterAtLeastOneAttribute",
            "One of `TaskTemplateName`, `TaskTemplateDescription` and `TaskTemplateInfo` must be given.",
        )
    if "TaskTemplateName" in params:
        _check_name(batch.host, params["TaskTemplateName"])
    for name, limit in (("TaskTemplateName", 60), ("TaskTemplateDescription", 200)):
        if len(params.get(name, "").encode()) > limit:
            raise ApiError(f"InvalidParameter.{name}TooLong", f"The parameter `{name}` is longer than {limit} bytes.")
    if "TaskTemplateInfo" in params:
        check_task(batch, params["TaskTemplateInfo"], "TaskTemplateInfo", env_must_exist=False)
        template.task = params["TaskTemplateInfo"]
    template.name = params.get("TaskTemplateName", template.name)
    template.description = params.get("TaskTemplateDescription", template.description)
    batch.host.ledger.touch(template)
    return {}


def delete_task_templates(batch: BatchService, params: Params) -> Params:
    """DeleteTaskTemplates: all of them or, when one does not exist, none."""
    ids = list(dict.fromkeys(params["TaskTemplateIds"]))
    if not 1 <= len(ids) <= 100:
        raise ApiError("InvalidParameterValue", "`TaskTemplateIds` has 1 to 100 entries.")
    for template in [_find(batch, template_id) for template_id in ids]:
        del batch.templates[template.template_id]
        batch.host.ledger.touch(template)
    return {}


def describe_task_templates(batch: BatchService, params: Params) -> Params:
    """DescribeTaskTemplates: newest first; unknown ids are left out."""
    check_not_both(params, "TaskTemplateIds")
    ids = params.get("TaskTemplateIds")
    for template_id in ids or ():
        _check_id(template_id)
    if params.get("Limit", 20) == 0:
        raise ApiError("InvalidParameterValue", "The parameter `Limit` must be 1 to 100.")
    found = in_order(batch.host.settings, batch.templates.values())
    if ids:
        found = [template for template in found if template.template_id in ids]
    else:
        filters: Filters[Template] = Filters(
            params.get("Filters", ()),
            {"task-template-name": lambda template: template.name},
            tags=lambda template: template.tags,
            unknown="InvalidParameterValue",
            parts_of_names=batch.host.settings.name_filter == "contains",
        )
        found = filters.select(found)
    shown = page(found, params, default=20, largest=100)
    return {"TotalCount": len(found), "TaskTemplateSet": [_row(template) for template in shown]}


def _row(template: Template) -> Params:
    return {
        "TaskTemplateId": template.template_id,
        "TaskTemplateName": template.name,
        "TaskTemplateDescription": template.description,
        "TaskTemplateInfo": template.task,
        "CreateTime": iso(template.created_at),
        "Tags": template.tags,
    }


def _check_name(host: Host, name: str) -> None:
    # What a name may hold is not documented.
    if host.settings.undocumented_values == "refuse" and (not name.strip() or not name.isprintable()):
        raise ApiError("InvalidParameter.TaskTemplateName", "The parameter `TaskTemplateName` is empty or unprintable.")


def _check_id(template_id: str) -> None:
    if not _TEMPLATE_ID.fullmatch(template_id):
        raise ApiError(
            "InvalidParameter.TaskTemplateIdMalformed",
            f"The task template id {printable(template_id, 60)!r} is malformed.",
        )


def _find(batch: BatchService, template_id: str) -> Template:
    _check_id(template_id)
    template = batch.templates.get(template_id)
    if template is None:
        raise ApiError("ResourceNotFound.TaskTemplate", f"The task template {template_id} does not exist.")
    return template


HANDLERS = {
    "CreateTaskTemplate": create_task_template,
    "DeleteTaskTemplates": delete_task_templates,
    "DescribeTaskTemplates": describe_task_templates,
    "ModifyTaskTemplate": modify_task_template,
}
