"""Task templates: tasks that the service keeps under a name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_tcbatch.exceptions import ApiError, InfrastructureError, InvalidRequest, NotFound, Throttled
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.changes import tell_changes
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.links import TCBatchTaskTemplateLink
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.job import Task
from airflow_provider_tcbatch.models.wire import with_placeholders
from airflow_provider_tcbatch.operators._base.jobs_waiting import several
from airflow_provider_tcbatch.operators._base.object_argument import TakesObject, known_later
from airflow_provider_tcbatch.operators._base.operator import TCBatchOperator, flag
from airflow_provider_tcbatch.policies.task_template.overrides import (
    merge,
    unreadable_secrets,
    with_nulls,
    without_nulls,
)

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_tcbatch.models.template_actions import TaskTemplateView
    from airflow_provider_tcbatch.policies.task_template.difference import Change

__all__ = [
    "TCBatchCreateTaskTemplateOperator",
    "TCBatchDeleteTaskTemplateOperator",
    "TCBatchEnsureTaskTemplateOperator",
    "TCBatchModifyTaskTemplateOperator",
]

#: Most characters of a template's name.
_NAME = 60

#: How often a template is sent, and a deletion tried.
_ATTEMPTS = 3

#: Pauses in seconds before looks at whether a request was carried out although its answer was lost.
_PAUSES = (0.0, 1.0, 3.0)

_INFO = "TaskTemplateInfo"


class _HasTemplate(TakesObject):
    """Base of operators on one template, with its content in ``task``."""

    argument: ClassVar[str] = "task"
    model: ClassVar[type[ApiModel]] = Task
    written_as: ClassVar[str] = "a mapping with Application in it"
    request_field: ClassVar[str] = "TaskTemplateInfo"

    operator_extra_links = (TCBatchTaskTemplateLink(),)
    template_fields_renderers = {"task": "json"}  # noqa: RUF012 - Airflow's own form

    def _check_name(self, argument: str, name: object) -> None:
        if known_later(name):
            return
        if not isinstance(name, str) or not name.strip() or len(name) > _NAME:
            raise InvalidRequest(f"Task {self.task_id!r}: {argument} is {name!r}; write 1 to {_NAME} characters")

    def _named(self, name: str) -> TaskTemplateView | None:
        """The template of a name; the oldest, if the service has several."""
        views = self.hook.task_templates_named([name]).get(name, [])
        if len(views) > 1:
            ids = ", ".join(view.task_template_id for view in views)
            self.log.warning("Several task templates are called %r (%s); taking the oldest", name, ids)
        return views[0] if views else None

    def _tell(self, context: Context, template_id: str | None, changes: Sequence[Change], *, words: str) -> None:
        """Report the difference, and where the template can be seen."""
        tell_changes(self, context, changes, words=words)
        if template_id is not None:
            url = self.hook.settings.template_url(template_id)
            push(context, TCBatchTaskTemplateLink.key, url)

    def _send(self, template_id: str, changes: Sequence[Change], after: Mapping[str, Any]) -> None:
        """Change what differs.

        :param after: the template as it shall be.
        """
        from airflow_provider_tcbatch.models.template_actions import ModifyTaskTemplate

        fields = {str(change.steps[0]) for change in changes}
        if _INFO in fields and (hidden := unreadable_secrets(Task, after[_INFO])):
            raise InvalidRequest(
                f"Task {self.task_id!r}: the service shows {', '.join(hidden)} of task template {template_id} as stars "
                "only, which would be stored in its place: write it into the task"
            )
        # A description is removed by an empty one.
        request = {name: after.get(name) or "" for name in fields}
        self.hook.api.call(ModifyTaskTemplate.parse({"TaskTemplateId": template_id, **request}))


class _MakesTemplate(_HasTemplate):
    """Base of operators that see to it that there is a template."""

    request_parts: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"TaskTemplateName": "name", "TaskTemplateDescription": "description"}
    )

    template_fields: Sequence[str] = ("name", "task", "description", "tags", "tencentcloud_conn_id", "region")

    # Of a run, kept where it begins again after an outage.
    #: Whether a template of the name may be one that this try has made, and its id, if that is known.
    _maybe_made: bool = False
    _made: str | None = None

    def __init__(
        self,
        *,
        name: str,
        task: Task | Mapping[str, Any] | str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._check_name("name", name)
        self.name = name
        self.task = task
        self.description = description
        self.tags = tags
        self.take(task)

    def _wish(self) -> dict[str, Any]:
        """The template as it is wished, checked, in wire JSON."""
        from airflow_provider_tcbatch.models.template_actions import CreateTaskTemplate

        self._check_name("name", self.name)
        wire = self.final_wire()
        # As numbers what Jinja has made text of: it is compared with what the service shows.
        typed = Task.parse(wire, at="Task").to_wire()
        wish: dict[str, Any] = {"TaskTemplateName": self.name, _INFO: with_nulls(typed, wire)}
        if self.description is not None:
            wish["TaskTemplateDescription"] = self.description
        if self.tags:
            wish["Tags"] = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        CreateTaskTemplate.parse(wish, at="TaskTemplate")
        return wish

    def _settle(self, context: Context, if_exists: str, *, dry_run: bool = False) -> str | None:
        """Come to the one template of the name.

        Creating a template has no token that would make it repeatable. So it is looked for before it is made, and when
        the answer was lost; and if somebody else has made one at the same moment, the older one stays.
        """
        from airflow_provider_tcbatch.models.template_actions import CreateTaskTemplate
        from airflow_provider_tcbatch.policies.task_template.difference import difference

        wish, sent = self._wish(), 0
        failure: ApiError | None = None
        while True:
            if self._made is None:
                view = self._look_again() if self._maybe_made else self._named(self.name)
                if view is not None:
                    return self._keep(context, wish, view, if_exists, dry_run=dry_run, ours=self._maybe_made)
                if dry_run:
                    new = difference(CreateTaskTemplate, wish, {})
                    self._tell(context, None, new, words=f"Task template {self.name!r} would be made")
                    return None
                if sent == _ATTEMPTS and failure is not None:
                    raise failure
                sent += 1
                try:
                    self._made = self.hook.api.call(CreateTaskTemplate.parse(wish)).task_template_id
                except (InfrastructureError, Throttled) as error:
                    self._maybe_made = self._maybe_made or error.maybe_done
                    if not error.retryable:
                        raise
                    known = "may have been made, looking for it" if self._maybe_made else "was not made, trying again"
                    self.log.warning("The task template %s: %s", known, error)
                    failure = error
                    continue
            if self._is_first(self._made):
                new = difference(CreateTaskTemplate, wish, {})
                self._tell(context, self._made, new, words=f"Made task template {self.name!r} ({self._made})")
                return self._made
            self._made, self._maybe_made, failure = None, False, None

    def _look_again(self) -> TaskTemplateView | None:
        for pause in _PAUSES:
            time.sleep(pause)
            if (view := self._named(self.name)) is not None:
                return view
        return None

    def _is_first(self, template_id: str) -> bool:
        """Whether a template that was made just now may stay: where there is an older one of its name, it goes."""
        ids = [view.task_template_id for view in self.hook.task_templates_named([self.name]).get(self.name, [])]
        if template_id not in ids[1:]:
            return True
        self.log.info("Task template %s was made at the same time: removing %s again", ids[0], template_id)
        self.hook.delete_task_templates([template_id])
        return False

    def _keep(
        self,
        context: Context,
        wish: dict[str, Any],
        view: TaskTemplateView,
        if_exists: str,
        *,
        dry_run: bool,
        ours: bool,
    ) -> str:
        """See to a template that is there.

        :param ours: whether this try may have made it.
        """
        from airflow_provider_tcbatch.models.template_actions import CreateTaskTemplate
        from airflow_provider_tcbatch.policies.task_template.difference import applied, difference

        shown, template_id = view.to_wire(), view.task_template_id
        changes = difference(CreateTaskTemplate, wish, shown)
        words = f"Task template {self.name!r} ({template_id})"
        if ours and not changes:
            new = difference(CreateTaskTemplate, wish, {})
            self._tell(context, template_id, new, words=f"Made {words[0].lower()}{words[1:]}")
            return template_id
        if if_exists == "fail":
            # An earlier try may have made it, and died before it could say so.
            if changes or context["ti"].try_number == 1:
                raise InvalidRequest(f"Task {self.task_id!r}: {words} exists already (if_exists='fail')")
        elif if_exists == "reuse":
            if changes:
                paths = ", ".join(change.path for change in changes)
                self.log.info("%s differs from what is written here, in %s (if_exists='reuse')", words, paths)
            changes = []
        if tags := [change for change in changes if change.steps[0] == "Tags"]:
            self.log.warning("Batch can't change the tags of a task template: %s", "; ".join(map(str, tags)))
            changes = [change for change in changes if change not in tags]
        self._tell(context, template_id, changes, words=f"{words} would be changed" if dry_run else words)
        if changes and not dry_run:
            self._send(template_id, changes, applied(wish, shown))
        return template_id


class TCBatchCreateTaskTemplateOperator(_MakesTemplate):
    """Keep a task as a template.

    Done twice it does no harm: the template is found by its name. That of an earlier try is found, too, if its answer
    was lost. Where several templates have the name, the oldest one counts.

    XComs: the template's id (return value); ``tcbatch_changes``: what was made or changed, field by field, each with
    ``path``, ``before`` and ``after``, without secrets.

    :param name: name of the template, at most 60 characters. (templated)
    :param task: its content: a :class:`~airflow_provider_tcbatch.models.job.Task`, a dictionary in either spelling,
        JSON or YAML text, or the path of a template file. (templated)
    :param description: at most 200 characters. (templated)
    :param tags: at most 10; they can't be changed afterwards. (templated)
    :param if_exists: what to do with a template of this name: ``reuse`` it as it is; ``update`` what differs, see
        :class:`TCBatchEnsureTaskTemplateOperator`; or ``fail``. (A retry takes one that is as wished for its own.)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :raises InvalidRequest: if the task is wrong, or the template exists with ``if_exists="fail"``. (No retry.)
    :raises QuotaExceeded: if the account has as many templates as it may have.
    """

    def __init__(self, *, if_exists: str = "reuse", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if if_exists not in ("reuse", "update", "fail"):
            raise InvalidRequest(f"Task {self.task_id!r}: if_exists is {if_exists!r}; write reuse, update or fail")
        self.if_exists = if_exists

    def execute(self, context: Context) -> str | None:
        """See to the template; its id."""
        with permanent_errors():
            return self.patiently(lambda: self._settle(context, self.if_exists), None)


class TCBatchEnsureTaskTemplateOperator(_MakesTemplate):
    """See to it that a template is there and is as it is written here.

    It is made, or exactly what differs is changed. Only what is written is compared: fields that the template has
    besides stay, a field that is written as ``None`` is removed. The order of environment variables does not count.

    XComs: the template's id (return value; ``None`` if it would be made); ``tcbatch_changes``: the difference, field by
    field, each with ``path``, ``before`` and ``after``, without secrets; empty if there is none.

    :param name: name of the template, at most 60 characters. (templated)
    :param task: its content, as for :class:`TCBatchCreateTaskTemplateOperator`. (templated)
    :param description: at most 200 bytes; an empty one removes it. (templated)
    :param tags: at most 10; only a new template gets them, the API can't change them. (templated)
    :param dry_run: report the difference and change nothing.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :raises InvalidRequest: if the task is wrong. (No retry.)
    :raises QuotaExceeded: if the account has as many templates as it may have.
    """

    def __init__(self, *, dry_run: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only_report = flag("dry_run", dry_run, self.task_id)  # operators have a method of the other name

    def execute(self, context: Context) -> str | None:
        """Report the difference, and remove it; the template's id."""
        with permanent_errors():
            return self.patiently(lambda: self._settle(context, "update", dry_run=self.only_report), None)


class TCBatchModifyTaskTemplateOperator(_HasTemplate):
    """Change a template that is there.

    Done twice it does no harm: only what differs is sent, and a template that is renamed already is found by its new
    name.

    XComs: the template's id (return value); ``tcbatch_changes``: what was changed, field by field, each with ``path``,
    ``before`` and ``after``, without secrets.

    :param task_template_id: the template; or (templated)
    :param name: its name. (templated)
    :param task: what to change of its content: fields that are put onto it by the rules for overrides in a job,
        ``None`` removes a field. In any form that a job may have. (templated)
    :param new_name: another name, at most 60 bytes. (templated)
    :param description: another description, at most 200 bytes; an empty one removes it. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :raises NotFound: if there is no such template.
    :raises InvalidRequest: if the task is wrong. (No retry.)
    """

    template_fields: Sequence[str] = (
        "task_template_id",
        "name",
        "task",
        "new_name",
        "description",
        "tencentcloud_conn_id",
        "region",
    )

    def __init__(
        self,
        *,
        task_template_id: str | None = None,
        name: str | None = None,
        task: Task | Mapping[str, Any] | str | None = None,
        new_name: str | None = None,
        description: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (task_template_id is None) == (name is None):
            raise InvalidRequest(f"Task {self.task_id!r}: give one of task_template_id and name")
        if task is None and new_name is None and description is None:
            raise InvalidRequest(f"Task {self.task_id!r}: give at least one of task, new_name and description")
        for argument, value in (("name", name), ("new_name", new_name)):
            if value is not None:
                self._check_name(argument, value)
        self.task_template_id = task_template_id
        self.name = name
        self.task = task
        self.new_name = new_name
        self.description = description
        self.take(task)

    def check_early(self, wire: Any) -> None:
        """Check what is given of the content."""
        Task.check_part(with_placeholders(Task, without_nulls(wire), known_later), at="Task")

    def execute(self, context: Context) -> str:
        """Change what differs; the template's id."""
        with permanent_errors():
            return self.patiently(lambda: self._modify(context), None)

    def _modify(self, context: Context) -> str:
        from airflow_provider_tcbatch.models.template_actions import CreateTaskTemplate
        from airflow_provider_tcbatch.policies.task_template.difference import between

        view = self._find()
        shown, template_id = view.to_wire(), view.task_template_id
        after = dict(shown)
        if self.task is not None:
            overrides = self.final_wire()
            Task.check_part(without_nulls(overrides), at="Task")
            after[_INFO] = Task.parse(merge(shown.get(_INFO) or {}, overrides), at="Task").to_wire()
        if self.new_name is not None:
            self._check_name("new_name", self.new_name)
            after["TaskTemplateName"] = self.new_name
        if self.description is not None:
            after["TaskTemplateDescription"] = self.description
        changes = between(CreateTaskTemplate, shown, after)
        self._tell(context, template_id, changes, words=f"Task template {view.task_template_name!r} ({template_id})")
        if changes:
            self._send(template_id, changes, after)
        return template_id

    def _find(self) -> TaskTemplateView:
        if self.name is None:
            ids = several("task_template_id", self.task_template_id, str, self.task_id)
            view = next(self.hook.describe_task_templates(ids), None)
        else:
            view = self._named(self.name)
            if view is None and self.new_name is not None:
                view = self._named(self.new_name)
        if view is None:
            wanted = repr(self.name) if self.name is not None else self.task_template_id
            raise NotFound(f"Task {self.task_id!r}: there is no task template {wanted}")
        return view


class TCBatchDeleteTaskTemplateOperator(TCBatchOperator):
    """Delete templates; one that is not there is deleted already.

    Jobs that were made from a template are not touched. Fit for a clean-up task with ``trigger_rule="all_done"``.

    XComs: ids of the templates that were there and are gone now (return value).

    :param task_template_ids: the templates: one id, several, or the output of other tasks. (templated)
    :param names: the same by name: all templates that are called so. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    """

    template_fields: Sequence[str] = ("task_template_ids", "names", "tencentcloud_conn_id", "region")

    def __init__(
        self,
        *,
        task_template_ids: str | Sequence[str] | XComArg | None = None,
        names: str | Sequence[str] | XComArg | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if task_template_ids is None and names is None:
            raise InvalidRequest(f"Task {self.task_id!r}: give task_template_ids, or names")
        self.task_template_ids = task_template_ids
        self.names = names

    def execute(self, context: Context) -> list[str]:
        """Delete what is there."""
        with permanent_errors():
            ids = several("task_template_ids", self.task_template_ids, str, self.task_id)
            names = several("names", self.names, str, self.task_id)
            deleted: list[str] = []

            def delete() -> None:
                for last in (False,) * (_ATTEMPTS - 1) + (True,):
                    there = self._there(ids, names)
                    if not there:
                        break
                    try:
                        self.hook.delete_task_templates(there)
                    except NotFound as error:
                        # Somebody else was faster with one of them, or the answer to a deletion was lost.
                        if last:
                            raise
                        self.log.info("Looking again what is to be deleted: %s", error)
                    except ApiError as error:
                        if error.maybe_done:
                            deleted.extend(there)  # what is left of them is deleted later, or this task fails
                        raise
                    deleted.extend(there)

            self.patiently(delete, None)
            deleted = list(dict.fromkeys(deleted))
            self.log.info("Deleted: %s", ", ".join(deleted) or "nothing, there is no such task template")
            return deleted

    def _there(self, ids: Sequence[str], names: Sequence[str]) -> list[str]:
        views = list(self.hook.describe_task_templates(ids))
        for named in self.hook.task_templates_named(names).values():
            views += named
        return list(dict.fromkeys(view.task_template_id for view in views))
