"""Set-up and tear-down of a task template that a part of a DAG makes jobs from.

DAGs use them by :func:`airflow_provider_tcbatch.resources.task_template`, which wires them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.operators._base.object_argument import known_later
from airflow_provider_tcbatch.operators._base.setup_teardown import FollowsSetUp, will_send
from airflow_provider_tcbatch.operators.task_template import TCBatchEnsureTaskTemplateOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.policies.ownership.marks import Owner

__all__ = ["TCBatchSetUpTaskTemplateOperator", "TCBatchTearDownTaskTemplateOperator"]


class TCBatchSetUpTaskTemplateOperator(TCBatchEnsureTaskTemplateOperator):
    """Make a task template for a part of a DAG.

    Its name is ``name``, of at most 40 characters, followed by twelve hex digits that stand for deployment, DAG, run,
    task and map index: each run has its own.

    XComs: as for :class:`~airflow_provider_tcbatch.operators.task_template.TCBatchEnsureTaskTemplateOperator`, and
    ``name``: the whole name.
    """

    def execute(self, context: Context) -> str | None:
        """See to the template; its id."""

        from airflow_provider_tcbatch.policies.compute_env.sharing import belongs, name_for

        owner = _owner(context, self.task_id)
        with permanent_errors():
            if not belongs(self.name, owner):
                self.name = name_for(self.name, owner)
        push(context, "name", self.name)
        will_send(context)
        return super().execute(context)


class TCBatchTearDownTaskTemplateOperator(FollowsSetUp):
    """Delete the template that a set-up has made; it is found by its name, which tells the owner.

    XCom: ids of what was deleted (return value).

    :param setup_task_id: task id of the set-up.
    :param on_teardown: ``delete`` or ``keep``. (templated)
    """

    template_fields: Sequence[str] = ("on_teardown", "tencentcloud_conn_id", "region")

    def __init__(self, *, on_teardown: str = "delete", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on_teardown = on_teardown
        if not known_later(on_teardown):
            self._keeps()

    def execute(self, context: Context) -> list[str]:
        """Delete what is there."""

        from airflow_provider_tcbatch.policies.compute_env.sharing import belongs

        with permanent_errors():
            if self._keeps():
                self.log.info("The template is kept (on_teardown='keep')")
                return []
            owner = _owner(context, self.setup_task_id)

            def look() -> list[str]:
                views = self.hook.describe_task_templates()
                return [view.task_template_id for view in views if belongs(view.task_template_name, owner)]

            known = self.from_setup(context, "return_value") is not None

            def delete(template_id: str) -> None:
                with contextlib.suppress(NotFound):  # the answer to a deletion was lost
                    self.hook.delete_task_templates([template_id])
                self.log.info("Task template %s is deleted", template_id)

            found = self.patiently(lambda: self.wait_for_list(context, look, known=known), None)
            for template_id in found:
                self.patiently(partial(delete, template_id), None)
            return found

    def _keeps(self) -> bool:
        if self.on_teardown not in ("delete", "keep"):
            raise InvalidRequest(f"Task {self.task_id!r}: on_teardown is {self.on_teardown!r}; write delete or keep")
        return self.on_teardown == "keep"


def _owner(context: Context, setup_task_id: str) -> Owner:
    from airflow_provider_tcbatch.execution.airflow_context import owner_of

    return replace(owner_of(context), task_id=setup_task_id)
