"""Waiting for something that happens to a compute environment, whoever manages it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator

from airflow_provider_tcbatch.exceptions import ComputeEnvError, InvalidRequest, NotFound
from airflow_provider_tcbatch.links import TCBatchComputeEnvLink
from airflow_provider_tcbatch.operators.base import default_deferrable, permanent_errors
from airflow_provider_tcbatch.policies.deadline import Deadlines
from airflow_provider_tcbatch.policies.env_nodes import Condition, Until, Verdict, env_now, judge_env
from airflow_provider_tcbatch.triggers.compute_env import TCBatchComputeEnvTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg
    from airflow.sdk.exceptions import AirflowSensorTimeout

    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
else:
    try:
        from airflow.sdk.exceptions import AirflowSensorTimeout
    except ImportError:  # Airflow 3.1
        from airflow.exceptions import AirflowSensorTimeout

__all__ = ["TCBatchComputeEnvSensor"]

_UNTIL = (Until.NODES_RUNNING, Until.DESIRED, Until.NODE_FAILED, Until.EMPTY, Until.DELETED)

#: How often a deferred wait goes on after an error.
_WAIT_ERRORS = 3


class TCBatchComputeEnvSensor(BaseSensorOperator):
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
    :param poke_interval: seconds between two looks; deferred, the longest time between them.
    :param timeout: seconds after which it gives up, as with every sensor; so are ``mode`` and ``soft_fail``.
    :raises NotFound: if there is no such environment. (``deleted`` and ``empty`` are fulfilled then.)
    :raises ComputeEnvError: if it is being deleted, so that its nodes will never run.
    """

    template_fields: Sequence[str] = ("env_id", "env_name", "nodes", "tencentcloud_conn_id", "region")
    operator_extra_links = (TCBatchComputeEnvLink(),)

    #: What the last look has found, if it has come true.
    _found: dict[str, int] | None = None

    def __init__(
        self,
        *,
        env_id: str | XComArg | None = None,
        env_name: str | XComArg | None = None,
        until: str = Until.NODES_RUNNING.value,
        nodes: int | str = 1,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        deferrable: bool | None = None,
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
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.deferrable = default_deferrable() if deferrable is None else deferrable

    @cached_property
    def hook(self) -> TCBatchHook:
        """Hook for the sensor's connection and region."""
        from airflow_provider_tcbatch.hooks.batch import TCBatchHook

        return TCBatchHook(self.tencentcloud_conn_id, self.region)

    def poke(self, context: Context) -> bool:
        """Look once."""
        with permanent_errors():
            env_id = self._id()
            return self._look(context, env_id)

    def execute(self, context: Context) -> Any:
        """Look; if it has not come true, go on in the triggerer, or as every sensor does."""
        if not self.deferrable:
            super().execute(context)
            return self._found
        with permanent_errors():
            env_id = self._id()
            reached = self._look(context, env_id)
        if reached or env_id is None:  # what does not exist can only be fulfilled, or an error
            return self._found
        return self._defer(env_id, {"errors": 0, "give_up_at": time.time() + self.timeout})

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the triggerer has waited.

        :param event: what :class:`~airflow_provider_tcbatch.triggers.compute_env.TCBatchComputeEnvTrigger` yielded.
        """
        env_id = str(event["env_id"])
        with permanent_errors():
            if event["status"] == Verdict.REACHED.value:
                return event["counts"]
            reached = self._look(context, env_id)
        if reached:
            return self._found
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(
                f"Compute environment {env_id}: {self._words()} did not come true within {self.timeout:.0f} s"
            )
        errors = int(event["errors"]) + 1
        if errors > _WAIT_ERRORS:
            raise ComputeEnvError(
                f"Waiting for compute environment {env_id} failed {errors} times, the last time with: "
                f"{event.get('message')}",
                env_id=env_id,
            )
        self.log.warning("Waiting failed; going on. It was: %s", event.get("message"))
        return self._defer(env_id, {"errors": errors, "give_up_at": event["give_up_at"]})

    def _defer(self, env_id: str, carried: Mapping[str, Any]) -> NoReturn:
        trigger = TCBatchComputeEnvTrigger(
            env_id=env_id,
            until=self.until,
            nodes=int(self.nodes),
            tencentcloud_conn_id=self.tencentcloud_conn_id,
            region=self.region,
            poll_interval=max(1.0, float(self.poke_interval)),
            deadlines=Deadlines(timeout=carried["give_up_at"]).to_json(),
            carried=carried,
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def _id(self) -> str | None:
        """Id of the environment; ``None`` if there is none of its name."""
        if self.env_id is not None:
            return str(self.env_id)
        found = self.hook.find_compute_envs(str(self.env_name))
        if len(found) > 1:
            raise InvalidRequest(f"{len(found)} compute environments are called {self.env_name!r}: name one by its id")
        return found[0].env_id if found else None

    def _look(self, context: Context, env_id: str | None) -> bool:
        """Whether it has come true.

        :raises NotFound: if it can't come true, because there is no such environment.
        """
        now = None
        if env_id is not None:
            context["ti"].xcom_push(key=TCBatchComputeEnvLink.key, value=self.hook.settings.env_url(env_id))
            try:
                now = env_now(self.hook.describe_compute_env(env_id))
            except NotFound as error:
                self.log.info("%s", error)
        verdict = judge_env(now, Condition(Until(self.until), int(self.nodes)))
        if verdict is Verdict.REACHED:
            self._found = None if now is None else now.to_json()
            return True
        if now is None:
            raise NotFound(f"There is no compute environment {env_id or self.env_name}")
        if verdict is Verdict.GONE:
            raise ComputeEnvError(
                f"Compute environment {env_id} is being deleted: {self._words()} can't come true", env_id=str(env_id)
            )
        self.log.info("Compute environment %s: %s", env_id, now)
        return False

    def _words(self) -> str:
        return f"{self.until} ({self.nodes})" if self.until == Until.NODES_RUNNING.value else self.until
