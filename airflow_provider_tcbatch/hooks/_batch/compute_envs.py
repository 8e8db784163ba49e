"""Compute environments, their nodes, and the machines that Batch can make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch import models
from airflow_provider_tcbatch.hooks._batch.base import BatchHookBase
from airflow_provider_tcbatch.models.request import PAGE, Filter, Filters, filters_of, portions

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvResult
    from airflow_provider_tcbatch.models.env_views import Activity, ComputeEnvCreateInfo, ComputeEnvView
    from airflow_provider_tcbatch.models.machine_actions import (
        InstanceCategoryItem,
        InstanceTypeConfig,
        InstanceTypeQuotaItem,
    )
    from airflow_provider_tcbatch.models.named_env import Instance, NamedComputeEnv

__all__ = ["ComputeEnvMethods"]


class ComputeEnvMethods(BatchHookBase):
    """Methods for compute environments."""

    def create_compute_env(
        self,
        compute_env: NamedComputeEnv | Mapping[str, Any],
        *,
        zone: str | None = None,
        placement: Mapping[str, Any] | None = None,
        client_token: str | None = None,
    ) -> str:
        """Make an environment and return its id; its nodes come afterwards.

        :param compute_env: the environment, as a model or as a mapping in either spelling.
        :param zone: availability zone; default is the connection's.
        :param placement: a whole Placement, instead of ``zone``.
        :param client_token: at most 64 ASCII characters: the same token makes the environment only once.
        """
        model = (
            compute_env
            if isinstance(compute_env, models.named_env.NamedComputeEnv)
            else models.named_env.NamedComputeEnv.parse(compute_env, at="ComputeEnv")
        )
        request = models.env_actions.CreateComputeEnv(
            compute_env=model, placement=self.placement(zone, placement), client_token=client_token
        )
        return self.api.call(request).env_id

    def describe_compute_env(self, env_id: str) -> DescribeComputeEnvResult:
        """One environment with its nodes."""
        return self.api.call(models.env_actions.DescribeComputeEnv(env_id=env_id))

    def describe_compute_envs(
        self, env_ids: Sequence[str] | None = None, filters: Filters | None = None
    ) -> Iterator[ComputeEnvView]:
        """Iterate over environments, by id or by filter.

        :param env_ids: any number of ids.
        :param filters: values by filter name (``env-name``, ``zone``, ``resource-type``, ``tag-key`` ...).
        """
        if env_ids is not None:
            for ids in portions(env_ids):
                yield from self.api.call(
                    models.env_actions.DescribeComputeEnvs(env_ids=ids, limit=PAGE)
                ).compute_env_set
            return
        for page in self.api.pages(models.env_actions.DescribeComputeEnvs(filters=filters_of(filters)), PAGE):
            yield from page.compute_env_set

    def describe_compute_env_activities(self, env_id: str, compute_node_id: str | None = None) -> Iterator[Activity]:
        """Iterate over how the nodes of an environment came and went, newest first.

        :param compute_node_id: one node only.
        """
        condition = Filter(name="compute-node-id", values=[compute_node_id]) if compute_node_id else None
        for page in self.api.pages(
            models.env_actions.DescribeComputeEnvActivities(env_id=env_id, filters=condition), PAGE
        ):
            yield from page.activity_set

    def describe_compute_env_create_info(self, env_id: str) -> ComputeEnvCreateInfo:
        """One environment as it was asked for."""
        return self.api.call(models.env_actions.DescribeComputeEnvCreateInfo(env_id=env_id))

    def describe_compute_env_create_infos(
        self, env_ids: Sequence[str] | None = None, filters: Filters | None = None
    ) -> Iterator[ComputeEnvCreateInfo]:
        """Iterate over environments as they were asked for; see :meth:`describe_compute_envs`."""
        if env_ids is not None:
            for ids in portions(env_ids):
                request = models.env_actions.DescribeComputeEnvCreateInfos(env_ids=ids, limit=PAGE)
                yield from self.api.call(request).compute_env_create_info_set
            return
        for page in self.api.pages(models.env_actions.DescribeComputeEnvCreateInfos(filters=filters_of(filters)), PAGE):
            yield from page.compute_env_create_info_set

    def modify_compute_env(
        self,
        env_id: str,
        *,
        desired_compute_node_count: int | None = None,
        env_name: str | None = None,
        env_description: str | None = None,
        instance_types: Sequence[str] | None = None,
    ) -> None:
        """Change an environment; what is not given stays.

        :param desired_compute_node_count: how many nodes it shall have, 0 to 2000.
        :param instance_types: types for nodes to come, tried in order.
        """
        data = None if instance_types is None else models.named_env.ComputeEnvData(instance_types=list(instance_types))
        self.api.call(
            models.env_actions.ModifyComputeEnv(
                env_id=env_id,
                desired_compute_node_count=desired_compute_node_count,
                env_name=env_name,
                env_description=env_description,
                env_data=data,
            )
        )

    def delete_compute_env(self, env_id: str) -> None:
        """Delete an environment without nodes: bring it to 0 nodes and wait, first."""
        self.api.call(models.env_actions.DeleteComputeEnv(env_id=env_id))

    def terminate_compute_nodes(self, env_id: str, compute_node_ids: Sequence[str]) -> None:
        """Destroy nodes, any number of them. Whether the environment replaces them is not documented."""
        if len(compute_node_ids) == 1:
            self.api.call(models.env_actions.TerminateComputeNode(env_id=env_id, compute_node_id=compute_node_ids[0]))
            return
        for ids in portions(compute_node_ids):
            self.api.call(models.env_actions.TerminateComputeNodes(env_id=env_id, compute_node_ids=ids))

    def attach_instances(self, env_id: str, instances: Sequence[Instance | Mapping[str, Any]]) -> None:
        """Bring CVM instances of your own into an environment. Their systems are **installed anew**.

        :param instances: at most 100, as models or as mappings in either spelling.
        """
        own = [
            entry
            if isinstance(entry, models.named_env.Instance)
            else models.named_env.Instance.parse(entry, at=f"Instances[{number}]")
            for number, entry in enumerate(instances)
        ]
        self.api.call(models.env_actions.AttachInstances(env_id=env_id, instances=own))

    def detach_instances(self, env_id: str, instance_ids: Sequence[str]) -> None:
        """Take instances that were attached out of an environment; they go on running."""
        self.api.call(models.env_actions.DetachInstances(env_id=env_id, instance_ids=list(instance_ids)))

    # -- machines ------------------------------------------------------------------------------------

    def available_instance_types(self, filters: Filters | None = None) -> list[InstanceTypeConfig]:
        """Instance types that Batch can use.

        :param filters: values by filter name (``zone``, ``instance-family``).
        """
        return self.api.call(
            models.machine_actions.DescribeAvailableCvmInstanceTypes(filters=filters_of(filters))
        ).instance_type_config_set

    def instance_type_offers(self, filters: Filters | None = None) -> list[InstanceTypeQuotaItem]:
        """Instance types by zone, with stock and price.

        :param filters: values by filter name (``zone``, ``instance-type``, ``instance-charge-type`` ...).
        """
        return self.api.call(
            models.machine_actions.DescribeCvmZoneInstanceConfigInfos(filters=filters_of(filters))
        ).instance_type_quota_set

    def instance_categories(self) -> list[InstanceCategoryItem]:
        """Classes of instance families."""
        return self.api.call(models.machine_actions.DescribeInstanceCategories()).instance_category_set
