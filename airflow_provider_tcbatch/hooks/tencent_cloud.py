"""The Airflow connection of type ``tencentcloud``, and the clients made from it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.connection.cache import shared_settings
from airflow_provider_tcbatch.connection.settings import ConnectionSettings

if TYPE_CHECKING:
    from typing_extensions import Self


__all__ = ["TencentCloudHook"]


class TencentCloudHook(BaseHook):
    """Base of the hooks: reads the connection once and makes clients from it.

    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; overrides the connection's.
    """

    conn_name_attr = "tencentcloud_conn_id"
    default_conn_name = "tencentcloud_default"
    conn_type = "tencentcloud"
    hook_name = "Tencent Cloud"

    def __init__(self, tencentcloud_conn_id: str = default_conn_name, region: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The connection, read and checked."""
        return ConnectionSettings.read(self.get_connection(self.tencentcloud_conn_id), self.region)

    async def asettings(self) -> ConnectionSettings:
        """The connection, read without blocking the event loop; all that ask within some seconds share one reading."""
        return await shared_settings((self.tencentcloud_conn_id, self.region), self._read)

    async def _read(self) -> ConnectionSettings:
        connection = await self.aget_connection(self.tencentcloud_conn_id)
        # Keys tell the masker of themselves when they are first used, which is in a thread: Airflow's masker talks to
        # the supervisor, and must not do so on the event loop.
        return ConnectionSettings.read(connection, self.region)

    @cached_property
    def api(self) -> ApiClient:
        """Client for API 3.0; ``api.call(action)`` sends any action."""
        return self.settings.api_client()

    def apart(self) -> Self:
        """A hook for the same connection whose client is there and shares no lock with this one's."""
        twin = type(self)(self.tencentcloud_conn_id, self.region)
        twin.api = self.api.apart()
        twin.settings = replace(self.settings, credentials=twin.api.credentials)
        return twin

    def get_conn(self) -> ApiClient:
        """Airflow's name for :attr:`api`."""
        return self.api

    def test_connection(self) -> tuple[bool, str]:
        """Ask for one job: read-only, and needs keys, region and endpoint to be right."""
        from airflow_provider_tcbatch.models.actions import DescribeJobs

        try:
            answer = self.api.call(DescribeJobs(limit=1), attempts=1)
        except Exception as error:
            return False, str(error)
        return True, f"Connected to Batch in {self.settings.api.region}: {answer.total_count or 0} jobs"
