"""Compute environments and task templates that a part of a DAG runs on: made before it, taken away after it.

::

    with compute_environment("machines", compute_env={...}) as env:
        TCBatchSubmitJobOperator(task_id="transform", job={"Tasks": [{"EnvId": env.env_id, ...}]})

makes a set-up task ``machines`` and a tear-down task ``machines_teardown``, and puts every task that is made inside
between the two: classic ones, TaskFlow, mapped ones, those in task groups, mapped or not, and in further resources.
Airflow's own context of set-up and tear-down leaves mapped tasks out.

The tear-down runs whatever became of the tasks before it, the set-up included, which may have been killed after it
made something; but not when the run reaches its ``dagrun_timeout``, since Airflow skips it then. It does not decide
about the state of the run. Clearing a task runs set-up and tear-down again, too.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import ConfigurationError, InvalidRequest
from airflow_provider_tcbatch.operators.compute_env_setup import (
    TCBatchSetUpComputeEnvOperator,
    TCBatchTearDownComputeEnvOperator,
)
from airflow_provider_tcbatch.operators.task_template_setup import (
    TCBatchSetUpTaskTemplateOperator,
    TCBatchTearDownTaskTemplateOperator,
)

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator
    from airflow.sdk.definitions.mappedoperator import MappedOperator
    from airflow.sdk.definitions.xcom_arg import XComArg
    from typing_extensions import Self

    from airflow_provider_tcbatch.models.job import Task
    from airflow_provider_tcbatch.models.named_env import NamedComputeEnv

    Operator = BaseOperator | MappedOperator

__all__ = ["ComputeEnvironment", "Resource", "TaskTemplate", "compute_environment", "task_template"]

#: Arguments of a tear-down unless others are given: what it does not take away goes on costing money.
_PERSISTENT: Mapping[str, Any] = {"retries": 3, "retry_delay": timedelta(minutes=1)}

#: Arguments that set-up and tear-down have in common, and those of them that say how to wait.
_COMMON = ("tencentcloud_conn_id", "region", "dag", "pool", "queue", "executor")
_WAIT = ("deferrable", "poll_interval")


class Resource(ABC):
    """Something that is made before a part of a DAG and taken away after it; a context manager.

    :param task_id: task id of the set-up; the tear-down's is ``<task_id>_teardown``.
    :ivar set_up: the set-up task, inside the context.
    :ivar tear_down: the tear-down task, inside the context.
    """

    set_up: BaseOperator
    tear_down: BaseOperator

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self._before: frozenset[str] | None = None

    @abstractmethod
    def _make(self) -> tuple[BaseOperator, BaseOperator]:
        """Make the two tasks."""

    def __enter__(self) -> Self:
        if self._before is not None:
            raise ConfigurationError(f"The resource {self.task_id!r} is used already: make one for each with statement")
        self.set_up, self.tear_down = self._make()
        if self._dag.dagrun_timeout is not None:
            warnings.warn(
                f"DAG {self._dag.dag_id!r} has a dagrun_timeout: when it is reached Airflow skips "
                f"{self.tear_down.task_id!r}, and what {self.set_up.task_id!r} made stays. Give the tasks inside an "
                "execution_timeout instead, or sweep up orphans",
                stacklevel=2,
            )
        self._before = frozenset(self._dag.task_dict)
        self.tear_down.as_teardown(setups=self.set_up)
        # Airflow's own rule for tear-downs leaves them out where the set-up has failed. It may have made something.
        self.tear_down.trigger_rule = type(self.tear_down.trigger_rule)("all_done")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._wire()

    @property
    def _dag(self) -> DAG:
        dag = self.set_up.get_dag()
        if dag is None:
            raise ConfigurationError(f"The resource {self.task_id!r} belongs to no DAG: make it inside a DAG")
        return dag

    def _wire(self) -> None:
        """Put all tasks that were made inside between set-up and tear-down."""
        before = self._before or frozenset()
        inside = {task_id: task for task_id, task in self._dag.task_dict.items() if task_id not in before}
        for task_id, task in inside.items():
            if task.is_teardown:
                continue
            first = inside.keys().isdisjoint(task.upstream_task_ids)
            if first and self.set_up.task_id not in task.upstream_task_ids:
                task.set_upstream(self.set_up)
            if self.set_up.task_id in task.upstream_task_ids and task.trigger_rule != "all_success":
                raise InvalidRequest(
                    f"Task {task_id!r} follows the set-up {self.set_up.task_id!r} and has trigger_rule="
                    f"{task.trigger_rule.value!r}, but Airflow wants all_success there. Let it follow another task "
                    "inside, and write what it takes of the resource as f'{...}': text makes no edge of its own"
                )
        for task in inside.values():
            if not self._is_awaited(task, inside):
                task.set_downstream(self.tear_down)

    def _is_awaited(self, task: Operator, inside: Mapping[str, Operator]) -> bool:
        """Whether another task, which the tear-down waits for, can't be over before this one is.

        It can be if it has several tasks before it: the first that fails fails it, while the others run on. The same
        goes for the instances of a mapped task. Airflow 3.3 sees that itself, earlier ones do not.
        """
        if task.get_needs_expansion() or getattr(task, "is_mapped", False):
            return False
        for task_id in task.downstream_task_ids:
            other = inside.get(task_id)
            if other is None or other.trigger_rule == "always" or other.is_teardown:
                continue
            if other.upstream_task_ids <= {task.task_id, self.set_up.task_id}:
                return True
        return False


class ComputeEnvironment(Resource):
    """What :func:`compute_environment` returns.

    :param setup: arguments of the set-up.
    :param teardown: arguments of the tear-down.
    """

    def __init__(self, task_id: str, setup: Mapping[str, Any], teardown: Mapping[str, Any]) -> None:
        super().__init__(task_id)
        self._setup = setup
        self._teardown = teardown

    @property
    def env_id(self) -> XComArg:
        """Id of the environment, for ``EnvId``; in text (``f"{env.env_id}"``) it becomes a template."""
        return self.set_up.output

    def _make(self) -> tuple[BaseOperator, BaseOperator]:
        set_up = TCBatchSetUpComputeEnvOperator(task_id=self.task_id, teardown_task_id="", **self._setup)
        tear_down = TCBatchTearDownComputeEnvOperator(
            task_id=f"{self.task_id}_teardown", setup_task_id=set_up.task_id, **self._teardown
        )
        # Only now it is known: a task group puts its name before it.
        set_up.teardown_task_id = tear_down.task_id
        return set_up, tear_down


def compute_environment(
    task_id: str,
    *,
    compute_env: NamedComputeEnv | Mapping[str, Any] | str | XComArg,
    on_teardown: str = "delete",
    shared_by: Sequence[str] | bool = (),
    renames: bool = True,
    force: bool = False,
    teardown_args: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> ComputeEnvironment:
    """Run a part of a DAG on a compute environment of its own, or on one that overlapping runs share.

    :param task_id: task id of the set-up; the tear-down's is ``<task_id>_teardown``.
    :param compute_env: the environment, in any form that
        :class:`~airflow_provider_tcbatch.operators.compute_env.TCBatchCreateComputeEnvOperator` takes. Its ``EnvName``
        has at most 40 characters; what tells whose it is is put after it.
    :param on_teardown: ``delete``; ``scale_to_zero``, which keeps it without nodes; or ``keep``. (templated)
    :param shared_by: ``True`` if runs of this DAG that overlap share one environment, or the ids of all DAGs whose runs
        share it, the same list in each of them, with the same ``task_id``. It is deleted by the tear-down after which
        nobody uses it.
    :param renames: ``False`` if the service should turn out not to rename environments, which sharing needs: then give
        both tasks a ``pool`` of one slot that counts deferred tasks, so that they run one after the other.
    :param force: let the tear-down destroy nodes also while something runs on them.
    :param teardown_args: further arguments of the tear-down task only, such as ``retries`` (3, a minute apart).
    :param kwargs: further arguments of the set-up task, such as ``wait_for_nodes``, ``timeout`` or ``retries``. The
        tear-down has those that say where and how to wait in common with it: connection, region, ``deferrable``,
        ``poll_interval``, ``pool``, ``queue``, ``executor``.
    :raises InvalidRequest: if the environment is wrong; inside, if a task can't stand where it stands.
    """
    common = {name: kwargs[name] for name in (*_COMMON, *_WAIT) if name in kwargs}
    sharing = {"shared_by": shared_by, "renames": renames}
    return ComputeEnvironment(
        task_id,
        {"compute_env": compute_env, **sharing, **kwargs},
        {**_PERSISTENT, "on_teardown": on_teardown, "force": force, **sharing, **common, **(teardown_args or {})},
    )


class TaskTemplate(Resource):
    """What :func:`task_template` returns.

    :param setup: arguments of the set-up.
    :param teardown: arguments of the tear-down.
    """

    def __init__(self, task_id: str, setup: Mapping[str, Any], teardown: Mapping[str, Any]) -> None:
        super().__init__(task_id)
        self._setup = setup
        self._teardown = teardown

    @property
    def task_template_id(self) -> XComArg:
        """Id of the template, for ``TaskTemplateId``; in text (``f"{template.task_template_id}"``) it becomes a
        template of Jinja's.
        """
        return self.set_up.output

    def _make(self) -> tuple[BaseOperator, BaseOperator]:
        set_up = TCBatchSetUpTaskTemplateOperator(task_id=self.task_id, **self._setup)
        tear_down = TCBatchTearDownTaskTemplateOperator(
            task_id=f"{self.task_id}_teardown", setup_task_id=set_up.task_id, **self._teardown
        )
        return set_up, tear_down


def task_template(
    task_id: str,
    *,
    name: str,
    task: Task | Mapping[str, Any] | str,
    on_teardown: str = "delete",
    teardown_args: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> TaskTemplate:
    """Make the jobs of a part of a DAG from a task template of the run's own.

    A template that all runs share needs no resource: see
    :class:`~airflow_provider_tcbatch.operators.task_template.TCBatchEnsureTaskTemplateOperator`.

    :param task_id: task id of the set-up; the tear-down's is ``<task_id>_teardown``.
    :param name: name of the template, of at most 40 characters; what tells whose it is is put after it.
    :param task: its content, in any form that the operator named above takes.
    :param on_teardown: ``delete`` or ``keep``. (templated)
    :param teardown_args: further arguments of the tear-down task only, such as ``retries`` (3, a minute apart).
    :param kwargs: further arguments of the set-up task. The tear-down has connection, region, ``pool``, ``queue`` and
        ``executor`` in common with it.
    :raises InvalidRequest: if the task is wrong; inside, if a task of the DAG can't stand where it stands.
    """
    common = {argument: kwargs[argument] for argument in _COMMON if argument in kwargs}
    return TaskTemplate(
        task_id,
        {"name": name, "task": task, **kwargs},
        {**_PERSISTENT, "on_teardown": on_teardown, **common, **(teardown_args or {})},
    )
