"""From a connection to the shared watcher that serves it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_provider_tcbatch.connection.deployment import deployment_id
from airflow_provider_tcbatch.connection.metrics import AirflowMetrics
from airflow_provider_tcbatch.exceptions import ApiError, ConfigurationError, NotFound, ResourceBusy
from airflow_provider_tcbatch.waits.blocking import run_here
from airflow_provider_tcbatch.watching.compute_envs import EnvWatcher
from airflow_provider_tcbatch.watching.event_listener import EventListener
from airflow_provider_tcbatch.watching.jobs import Watcher
from airflow_provider_tcbatch.watching.poller import Poller
from airflow_provider_tcbatch.watching.registry import shared_watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow

__all__ = ["env_watcher", "job_watcher", "scale_to_zero", "terminate", "wait_env_here", "wait_here"]

log = logging.getLogger(__name__)

EndT = TypeVar("EndT", covariant=True)
PollerT = TypeVar("PollerT", bound=Poller[Any], contravariant=True)
WatcherT = TypeVar("WatcherT", bound=Poller[Any])


class Wait(Protocol[PollerT, EndT]):
    """A wait: :class:`~.waits.job.JobWait`, :class:`~.waits.jobs.JobsWait`, :class:`~.env_wait.EnvWait`."""

    async def run(self, watcher: PollerT, settings: ConnectionSettings) -> EndT:
        """Wait for the end."""


def job_watcher(settings: ConnectionSettings) -> AbstractAsyncContextManager[Watcher]:
    """Use the watcher of this process for a connection's account and region; it is made if need be."""

    def make() -> tuple[Watcher, ApiClient]:
        api = settings.api_client()
        return Watcher(api, _listener(settings, api)), api

    return shared_watcher(settings.watcher_key, make)


def env_watcher(settings: ConnectionSettings) -> AbstractAsyncContextManager[EnvWatcher]:
    """Use the watcher of compute environments of this process for a connection's account and region."""

    def make() -> tuple[EnvWatcher, ApiClient]:
        api = settings.api_client()
        return EnvWatcher(api), api

    return shared_watcher(("environments", settings.watcher_key), make)


def wait_here(settings: ConnectionSettings, wait: Wait[Watcher, EndT]) -> EndT:
    """Wait and block: by polling alone, since a queue of events is not worth its making for most waits."""
    return _wait_here(settings, wait, Watcher)


def listen_here(
    settings: ConnectionSettings, wait: Wait[Watcher, EndT], began: Callable[[Callable[[], None]], None]
) -> EndT:
    """Wait and block, and hear events meanwhile, through a queue that lasts as long as the wait.

    :param began: told of what ends the wait from elsewhere, such as a signal handler.
    :raises asyncio.CancelledError: if it was ended in this way.
    """
    return _wait_here(settings, wait, lambda api: Watcher(api, _listener(settings, api, shared=False)), began)


def wait_env_here(settings: ConnectionSettings, wait: Wait[EnvWatcher, EndT]) -> EndT:
    """Wait for a compute environment, and block."""
    return _wait_here(settings, wait, EnvWatcher)


def _wait_here(
    settings: ConnectionSettings,
    wait: Wait[WatcherT, EndT],
    make: Callable[[ApiClient], WatcherT],
    began: Callable[[Callable[[], None]], None] | None = None,
) -> EndT:
    async def run() -> EndT:
        api = settings.api_client()
        watcher = make(api)
        watcher.speaks = False
        watcher.start()
        try:
            return await wait.run(watcher, settings)
        finally:
            await watcher.aclose()
            await api.aclose()

    return run_here(run(), began)


async def scale_to_zero(settings: ConnectionSettings, env_id: str, *, patience: float) -> None:
    """Let the nodes of an environment go without blocking the event loop: without them it costs nothing.

    :param patience: seconds to go on: nodes that are being made, or on which something runs, can't go yet.
    :raises ApiError: if nodes are left then, or the service can't be reached.
    """
    from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnv
    from airflow_provider_tcbatch.policies.compute_env.nodes import env_now
    from airflow_provider_tcbatch.policies.compute_env.scale_down import KEEPS_NODES, emptied

    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    api = settings.api_client()
    try:
        while True:
            late = loop.time() >= until
            try:
                now = env_now(await api.acall(DescribeComputeEnv(env_id=env_id), attempts=1))
                if emptied(now) or await _shrink(api, env_id, now, max(0.1, until - loop.time())):
                    return
                if late:
                    raise ResourceBusy(KEEPS_NODES.format(env_id))
            except NotFound:
                return
            except ApiError as error:
                if late or not (error.retryable or isinstance(error, ResourceBusy)):
                    raise
            await asyncio.sleep(1.0)
    finally:
        await api.aclose()


async def _shrink(api: ApiClient, env_id: str, now: EnvNow, patience: float) -> bool:
    """Let nodes go, as far as that can be asked for now; whether all are going then.

    :param patience: for how many seconds a request may wait for its turn.
    """
    from airflow_provider_tcbatch.models.env_actions import ModifyComputeEnv, TerminateComputeNodes
    from airflow_provider_tcbatch.policies.compute_env.scale_down import shrinks

    for step in shrinks(now):
        try:
            if step.desired is None:
                ids = list(step.nodes[:100])  # the most for one request: the others go the next time
                remove = TerminateComputeNodes(env_id=env_id, compute_node_ids=ids)
                await api.acall(remove, attempts=1, patience=patience)
                return False
            change = ModifyComputeEnv(env_id=env_id, desired_compute_node_count=step.desired)
            await api.acall(change, attempts=1, patience=patience)
            return step.desired == 0
        except ResourceBusy as error:
            if "NotEnoughComputeNodesToTerminate" not in error.code:
                raise
    return False


async def terminate(settings: ConnectionSettings, job_id: str, *, patience: float) -> str | None:
    """End a job without blocking the event loop: TerminateJob only says that it is going to end.

    :param patience: seconds to go on: asking again while the service refuses (SUBMITTED) or can't be reached, then
        looking whether the job has ended. Waiting for the request's turn does not count.
    :returns: the job's state as it was read last; ``None`` if it does not exist.
    :raises ApiError: if the service refuses for good, or can't be reached within ``patience``.
    """
    from airflow_provider_tcbatch.models.actions import DescribeJob, TerminateJob
    from airflow_provider_tcbatch.waits.jobs import has_ended

    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    asked = False
    api = settings.api_client()
    try:
        while True:
            late = loop.time() >= until
            try:
                if not asked:
                    sent = loop.time()
                    try:
                        await api.acall(TerminateJob(job_id=job_id), attempts=1, patience=settings.api.patience)
                    finally:
                        until += loop.time() - sent
                    asked = True
                view = await api.acall(DescribeJob(job_id=job_id), attempts=1)
                state = str(view.job_state)
                if late or has_ended(state, interrupted=False):
                    return state
                # It goes on if a RetryJobs of before took effect in between.
                asked = bool(view.next_action)
            except NotFound:
                return None
            except ApiError as error:
                if late or not (error.retryable or isinstance(error, ResourceBusy)):
                    raise
            await asyncio.sleep(0.5)
    finally:
        await api.aclose()


def _listener(settings: ConnectionSettings, api: ApiClient, *, shared: bool = True) -> EventListener | None:
    if settings.event_topic is None:
        return None
    try:
        cmq = settings.cmq_client()
    except ConfigurationError as error:
        log.warning("Events can't be heard, waits go on by polling: %s", error)
        return None
    return EventListener(
        cmq,
        api,
        settings.event_topic,
        settings.event_queue if shared else None,
        deployment=deployment_id(),
        metrics=AirflowMetrics(topic=settings.event_topic),
    )
