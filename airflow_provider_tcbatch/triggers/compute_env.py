"""Waiting for a compute environment without holding a worker."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.policies.env_nodes import Condition, Until
from airflow_provider_tcbatch.triggers.job import KILL_SECONDS, put_to_an_end
from airflow_provider_tcbatch.triggers.jobs import OneEvent

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.env_wait import EnvEnd

__all__ = ["TCBatchComputeEnvTrigger"]


class TCBatchComputeEnvTrigger(OneEvent):
    """Wait for a compute environment; all triggers of a triggerer that use one account share one watcher.

    It yields exactly one event, a dictionary:

    - ``status``: ``reached``; ``failing`` (with ``fail_fast``: nodes failed without which it can't be reached);
      ``gone`` (the environment does not exist, or is being deleted); ``timeout``; ``look``; ``error``
    - ``env_id``
    - ``counts``: how many nodes are ``desired``, ``running``, ``failed``, ``present`` and ``attached``, as they were
      read last; ``None`` if there is no such environment
    - ``limit``: ``timeout`` or ``execution_timeout``, whichever was reached
    - ``message``: what went wrong, for ``error``
    - and what is in ``carried``

    :param env_id: the environment.
    :param until: what to wait for: ``nodes_running`` (at least ``nodes`` of them), ``desired`` (all nodes that it shall
        have run, and there are no others), ``node_failed`` (one is ABNORMAL or CREATION_FAILED), ``empty`` (no nodes
        but attached ones), ``deleted``, ``nodes_gone`` (those in ``ids``), ``instances_running`` and
        ``instances_gone`` (CVM instances in ``ids``, as nodes).
    :param nodes: how many nodes, for ``nodes_running``.
    :param ids: ids of nodes, or of CVM instances.
    :param fail_fast: end the wait as soon as nodes have failed without which it can't be reached.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks.
    :param deadlines: unix seconds at which to give up, by limit; see :class:`~.policies.deadline.Deadlines`.
    :param look_at: unix seconds at which the wait ends in any case, with status ``look``.
    :param cancel_on_kill: let the environment's nodes go when the user marks the waiting task as failed or skipped
        (Airflow 3.3 and later tell the trigger). One whose task is marked as succeeded is wanted.
    :param carried: handed on in the event.
    """

    def __init__(
        self,
        *,
        env_id: str,
        until: str,
        nodes: int = 0,
        ids: Collection[str] = (),
        fail_fast: bool = False,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        look_at: float | None = None,
        cancel_on_kill: bool = False,
        carried: Mapping[str, Any] | None = None,
    ) -> None:
        self.env_id = env_id
        self.condition = Condition(Until(until), nodes, frozenset(ids), fail_fast)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = dict(deadlines or {})
        self.look_at = look_at
        self.cancel_on_kill = cancel_on_kill
        arguments = {
            "env_id": env_id,
            **self.condition.to_json(),
            "tencentcloud_conn_id": tencentcloud_conn_id,
            "region": region,
            "poll_interval": poll_interval,
            "deadlines": self.deadlines,
            "look_at": look_at,
            "cancel_on_kill": cancel_on_kill,
        }
        super().__init__(arguments, {**(carried or {}), "env_id": env_id})

    async def on_kill(self) -> None:
        """Let the nodes go if the user has put an end to the task. Airflow gives this 30 seconds."""
        words = f"compute environment {self.env_id}"
        if not self.cancel_on_kill or not await put_to_an_end(self, words, spared=("success",)):
            return
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.hooks.watching import scale_to_zero

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        await scale_to_zero(settings, self.env_id, patience=KILL_SECONDS)

    async def _wait(self) -> EnvEnd:
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.hooks.env_wait import EnvWait
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.hooks.watching import env_watcher
        from airflow_provider_tcbatch.policies.deadline import Deadlines

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        wait = EnvWait(
            self.env_id,
            self.condition,
            poll_interval=self.poll_interval,
            deadlines=Deadlines.from_json(self.deadlines),
            look_at=self.look_at,
            say=self.log.info,
        )
        async with env_watcher(settings) as watcher:
            return await wait.run(watcher, settings)
