"""What the Describe actions return about compute environments; read as tolerantly as ``views``."""

from airflow_provider_tcbatch.models.answers import Count, Echo, KnownActivityState, KnownNodeState
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.compute_env import EnvData, MountDataDisk, Placement
from airflow_provider_tcbatch.models.job import Authentication, InputMapping, Tag
from airflow_provider_tcbatch.models.notification import Notification

__all__ = ["Activity", "ComputeEnvCreateInfo", "ComputeEnvView", "ComputeNode", "ComputeNodeMetrics"]


class ComputeNodeMetrics(ApiModel):
    """How many nodes are in each state. Pending nodes are not counted by the service."""

    submitted_count: Count = 0
    creating_count: Count = 0
    creation_failed_count: Count = 0
    created_count: Count = 0
    running_count: Count = 0
    deleting_count: Count = 0
    abnormal_count: Count = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.model_dump().values())


class ComputeEnvView(ApiModel):
    """A compute environment.

    :param next_action: ``DELETING``, or empty.
    :param resource_type: ``CVM``, or ``CPM`` for bare metal.
    """

    env_id: str
    env_name: str | None = None
    placement: Echo[Placement] | None = None
    create_time: str | None = None
    compute_node_metrics: ComputeNodeMetrics | None = None
    env_type: str | None = None
    desired_compute_node_count: int | None = None
    resource_type: str | None = None
    next_action: str | None = None
    attached_compute_node_count: int | None = None
    tags: list[Echo[Tag]] | None = None


class ComputeNode(ApiModel):
    """A node of an environment.

    :param compute_node_instance_id: id of its CVM instance.
    :param mem: in GiB.
    :param task_instance_num_available: how many task instances it could take now; 0 while it is busy.
    :param resource_origin: ``BATCH_CREATED``, or ``USER_ATTACHED`` for one that AttachInstances brought.
    """

    compute_node_id: str
    compute_node_instance_id: str | None = None
    compute_node_state: KnownNodeState | None = None
    cpu: int | None = None
    mem: int | None = None
    resource_created_time: str | None = None
    task_instance_num_available: int | None = None
    agent_version: str | None = None
    private_ip_addresses: list[str] | None = None
    public_ip_addresses: list[str] | None = None
    resource_type: str | None = None
    resource_origin: str | None = None


class Activity(ApiModel):
    """The making or the removal of a node.

    :param compute_node_activity_type: ``CREATE_COMPUTE_NODE``; the name of the other type is not documented.
    :param cause: readable text (``ModifyComputeEnv: increase the capacity from 1 to 2``).
    """

    activity_id: str | None = None
    compute_node_id: str | None = None
    compute_node_activity_type: str | None = None
    env_id: str | None = None
    cause: str | None = None
    activity_state: KnownActivityState | None = None
    state_reason: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    instance_id: str | None = None


class ComputeEnvCreateInfo(ApiModel):
    """An environment as it was asked for."""

    env_id: str
    env_name: str | None = None
    env_description: str | None = None
    env_type: str | None = None
    env_data: Echo[EnvData] | None = None
    mount_data_disks: list[Echo[MountDataDisk]] | None = None
    input_mappings: list[Echo[InputMapping]] | None = None
    authentications: list[Echo[Authentication]] | None = None
    notifications: list[Echo[Notification]] | None = None
    desired_compute_node_count: int | None = None
    tags: list[Echo[Tag]] | None = None
