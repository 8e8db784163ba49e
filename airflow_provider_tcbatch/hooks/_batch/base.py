"""What the methods for jobs, environments and templates have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
from airflow_provider_tcbatch.models.compute_env import Placement

__all__ = ["BatchHookBase"]


class BatchHookBase(TencentCloudHook):
    """Base of the groups of methods that make up :class:`~airflow_provider_tcbatch.hooks.batch.TCBatchHook`."""

    def placement(self, zone: str | None = None, placement: Mapping[str, Any] | None = None) -> Placement:
        """Where machines are made.

        :param zone: availability zone; default is the connection's.
        :param placement: a whole Placement, in wire or Python spelling.
        :raises ConfigurationError: if no zone is given anywhere.
        """
        if placement is not None:
            return Placement.parse(placement, at="Placement")
        zone = zone or self.settings.zone
        if not zone:
            raise ConfigurationError(
                f"No zone: set field zone of connection {self.tencentcloud_conn_id!r} (for instance "
                f"{self.settings.api.region}-3), or the operator's argument zone"
            )
        return Placement(zone=zone)
