"""Waiting for a compute environment without holding a worker."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.links import TCBatchComputeEnvLink
from airflow_provider_tcbatch.policies.arguments import number_of, text_of
from airflow_provider_tcbatch.policies.compute_env.nodes import Condition, Until
from airflow_provider_tcbatch.triggers._base.sensor_trigger import BaseSensorTrigger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings

__all__ = ["TCBatchComputeEnvTrigger"]


class TCBatchComputeEnvTrigger(BaseSensorTrigger):
    """Wait for a compute environment; all triggers of a triggerer that use one account share one watcher.

    It yields exactly one event, a dictionary:

    - ``status``: ``reached``; ``failing`` (with ``fail_fast``: nodes failed without which it can't be reached);
      ``gone`` (the environment does not exist, or is being deleted); ``timeout``; ``look``; ``away``;
      ``error``
    - ``env_id``; ``None`` if there is no environment of that name
    - ``counts``: how many nodes are ``desired``, ``running``, ``failed``, ``present`` and ``attached``, as they were
      read last; ``None`` if there is no such environment
    - ``limit``: ``timeout`` or ``execution_timeout``, whichever was reached
    - ``message``: what went wrong, for ``error``
    - ``source``, ``observed_at``, ``event_received_at``: the look that ended the wait; no event leads to one
    - and what is in ``carried``

    :param env_id: the environment.
    :param env_name: its name, instead of ``env_id``; it is looked for once, when the wait begins.
    :param until: what to wait for: ``nodes_running`` (at least ``nodes`` of them), ``desired`` (all nodes that it shall
        have run, and there are no others), ``node_failed`` (one is ABNORMAL or CREATION_FAILED), ``empty`` (no nodes
        but attached ones), ``deleted``, ``nodes_gone`` (those in ``ids``), ``instances_running`` and
        ``instances_gone`` (CVM instances in ``ids``, as nodes).
    :param nodes: how many nodes, for ``nodes_running``.
    :param ids: ids of nodes, or of CVM instances.
    :param fail_fast: end the wait as soon as nodes have failed without which it can't be reached.
    :param look_at: unix seconds at which the wait ends in any case, with status ``look``.
    :param cancel_on_kill: let the environment's nodes go when the user marks the waiting task as failed or skipped
        (Airflow 3.3 and later tell the trigger). One whose task is marked as succeeded is wanted.
    :param common: what all triggers of sensors take, see :class:`~.triggers._base.sensor_trigger.BaseSensorTrigger`.
    """

    def __init__(
        self,
        *,
        env_id: str | None = None,
        env_name: str | None = None,
        until: str,
        nodes: int | str = 0,
        ids: Collection[str] = (),
        fail_fast: bool = False,
        look_at: float | None = None,
        cancel_on_kill: bool = False,
        **common: Any,
    ) -> None:
        self.env_id = env_id
        self.env_name = env_name
        self.until = until
        self.nodes = nodes
        self.ids: Sequence[str] = sorted(ids) or ()
        self.fail_fast = fail_fast
        self.look_at = look_at
        self.cancel_on_kill = cancel_on_kill
        super().__init__(**common)

    def owned(self) -> tuple[Sequence[str], str | None]:
        """The environment, where its nodes are to go with the task."""
        return (), self.env_id if self.cancel_on_kill else None

    def carries(self) -> Mapping[str, Any]:
        """What is carried, and the environment."""
        return {**super().carries(), "env_id": self.env_id}

    async def wait(self) -> dict[str, Any]:
        """Wait for the environment, beside a watcher of its kind."""
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.policies.compute_env.nodes import judge_env
        from airflow_provider_tcbatch.waits.compute_env import EnvEnd, EnvWait, find_env
        from airflow_provider_tcbatch.waits.sessions import env_watcher

        settings = await self.settings()
        condition = Condition(Until(self.until), number_of("nodes", self.nodes), frozenset(self.ids), self.fail_fast)
        async with env_watcher(settings) as watcher:
            if self.env_name is not None:
                self.env_id = await find_env(watcher.api, text_of("env_name", self.env_name))
                if self.env_id is None:
                    return EnvEnd(judge_env(None, condition).value).to_event()
            wait = EnvWait(text_of("env_id", self.env_id), condition, **self.options, look_at=self.look_at)
            return (await wait.run(watcher, settings)).to_event()

    def result(self, event: Mapping[str, Any]) -> dict[str, int] | None:
        """How many nodes there are; ``None`` where the environment is gone."""
        return None if event["counts"] is None else dict(event["counts"])

    def links(self, event: Mapping[str, Any], settings: ConnectionSettings) -> dict[str, str]:
        """The environment's page, if there is one."""
        env_id = event["env_id"]
        return {} if env_id is None else {TCBatchComputeEnvLink.key: settings.env_url(env_id)}
