"""Waiting for something that happens to a compute environment, whoever manages it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import ComputeEnvError, InvalidRequest, NotFound, TCBatchError
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.links import TCBatchComputeEnvLink
from airflow_provider_tcbatch.policies.arguments import number_of, text_of
from airflow_provider_tcbatch.policies.compute_env.nodes import Condition, Until, Verdict, env_now, judge_env
from airflow_provider_tcbatch.policies.lookup import only_env
from airflow_provider_tcbatch.sensors._base.sensor import TCBatchSensor
from airflow_provider_tcbatch.triggers.compute_env import TCBatchComputeEnvTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

__all__ = ["TCBatchComputeEnvSensor"]

_UNTIL = (Until.NODES_RUNNING, Until.DESIRED, Until.NODE_FAILED, Until.EMPTY, Until.DELETED)


class TCBatchComputeEnvSensor(TCBatchSensor):
    """Wait until nodes of a compute environment run, one of them fails, or the environment is gone. It only observes.

    Return value: how many nodes are ``desired``, ``running``, ``failed``, ``present`` and ``attached``; ``None`` where
    the environment is gone.

    :param env_id: id of the environment. (templated)
    :param env_name: its name, instead of ``env_id``. (templated)
    :param until: ``nodes_running`` (at least ``nodes`` of them), ``desired`` (all nodes that it shall have run, and
        there are no others), ``node_failed`` (one is ABNORMAL or CREATION_FAILED), ``empty`` (no nodes but attached
        ones), ``deleted``.
    :param nodes: how many nodes, for ``nodes_running``.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param deferrable: wait in the triggerer, without a worker, whatever ``mode`` says; default is Airflow's
        ``[operators] default_deferrable``.
    :param start_from_trigger: begin in the triggerer, too, without a worker; not for mapped tasks and outputs of other
        tasks.
    :param end_from_trigger: let the trigger end the task where it succeeds, or is skipped by ``soft_fail``.
    :param poke_interval: seconds between two looks; deferred, the longest time between them.
    :param timeout: seconds after which it gives up, as with every sensor; so are ``mode`` and ``soft_fail``.
    :raises NotFound: if there is no such environment. (``deleted`` and ``empty`` are fulfilled then.)
    :raises ComputeEnvError: if it is being deleted, so that its nodes will never run.
    """

    trigger_class = TCBatchComputeEnvTrigger
    template_fields: Sequence[str] = ("env_id", "env_name", "nodes", "tencentcloud_conn_id", "region")
    operator_extra_links = (TCBatchComputeEnvLink(),)

    #: Id of the environment, once it is known.
    _env_id: str | None = None

    def __init__(
        self,
        *,
        env_id: str | XComArg | None = None,
        env_name: str | XComArg | None = None,
        until: str = Until.NODES_RUNNING.value,
        nodes: int | str = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        known = [choice.value for choice in _UNTIL]
        if until not in known:
            raise InvalidRequest(f"Task {self.task_id!r}: until is {until!r}; write one of {', '.join(known)}")
        if (env_id is None) is (env_name is None):
            raise InvalidRequest(f"Task {self.task_id!r}: give env_id or env_name, and not both")
        self.env_id = env_id
        self.env_name = env_name
        self.until = until
        self.nodes = nodes
        self.prepare_start()

    def look(self, context: Context, event: Mapping[str, Any] | None = None) -> bool:
        """Look once.

        :raises NotFound: if it can't come true, because there is no such environment.
        """
        known = event is not None and event["env_id"]
        self._env_id = str(known) if known else self._id()
        return self._look(context, self._env_id)

    def told(self, context: Context, event: Mapping[str, Any]) -> Any:
        """How many nodes there are; ``None`` where the environment is gone."""
        if event["env_id"] is not None:
            self._show_link(context, event["env_id"])
        return event["counts"]

    def trigger_arguments(self) -> dict[str, Any]:
        """What the trigger waits for."""
        known = self._env_id is not None  # else no look of a worker has found it
        return {
            "env_id": self._env_id if known else self.env_id,
            "env_name": None if known else self.env_name,
            "until": self.until,
            "nodes": self.nodes,
        }

    def words(self) -> str:
        """What is waited for."""
        return f"Compute environment {self._env_id}: {self._condition()}"

    def broken(self, message: str) -> TCBatchError:
        """The error that says that waiting fails again and again."""
        return ComputeEnvError(f"Waiting for compute environment {self._env_id} {message}", env_id=str(self._env_id))

    def _id(self) -> str | None:
        """Id of the environment; ``None`` if there is none of its name."""
        try:
            if self.env_id is not None:
                return text_of("env_id", self.env_id)
            name = text_of("env_name", self.env_name)
            return only_env(self.hook.find_compute_envs(name), name)
        except ValueError as error:
            raise InvalidRequest(f"Task {self.task_id!r}: {error}") from None

    def _look(self, context: Context, env_id: str | None) -> bool:
        now = None
        if env_id is not None:
            self._show_link(context, env_id)
            try:
                now = env_now(self.hook.describe_compute_env(env_id))
            except NotFound as error:
                self.log.info("%s", error)
        verdict = judge_env(now, Condition(Until(self.until), self._nodes()))
        if verdict is Verdict.REACHED:
            self._found = None if now is None else now.to_json()
            return True
        if now is None:
            raise NotFound(f"There is no compute environment {env_id or self.env_name}")
        if verdict is Verdict.GONE:
            raise ComputeEnvError(
                f"Compute environment {env_id} is being deleted: {self._condition()} can't come true",
                env_id=str(env_id),
            )
        self.log.info("Compute environment %s: %s", env_id, now)
        return False

    def _show_link(self, context: Context, env_id: str) -> None:
        push(context, TCBatchComputeEnvLink.key, self.hook.settings.env_url(env_id))

    def _nodes(self) -> int:
        try:
            return number_of("nodes", self.nodes)
        except ValueError as error:
            raise InvalidRequest(f"Task {self.task_id!r}: {error}") from None

    def _condition(self) -> str:
        return f"{self.until} ({self.nodes})" if self.until == Until.NODES_RUNNING.value else self.until
