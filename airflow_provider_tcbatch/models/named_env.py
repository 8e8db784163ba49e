"""A compute environment: machines that stay, for the tasks of many jobs."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from airflow_provider_tcbatch.models.base import ApiModel, Distinct
from airflow_provider_tcbatch.models.compute_env import AgentRunningMode, EnvData, LoginSettings, MountDataDisk
from airflow_provider_tcbatch.models.job import Authentication, InputMapping, Tag
from airflow_provider_tcbatch.models.notification import Notification, NotificationTarget
from airflow_provider_tcbatch.models.states import WireEnum
from airflow_provider_tcbatch.models.values import ImageId, Percent, no_flag

__all__ = ["ComputeEnvData", "EnvType", "Instance", "NamedComputeEnv", "NodeCount"]

#: How many nodes an environment shall have.
NodeCount = Annotated[int, Field(ge=0, le=2000), BeforeValidator(no_flag)]


class EnvType(WireEnum):
    """Who makes an environment: the user, or the product THPC."""

    MANAGED = "MANAGED"
    THPC_QUEUE = "THPC_QUEUE"


class NamedComputeEnv(ApiModel):
    """A compute environment as CreateComputeEnv takes it.

    :param desired_compute_node_count: how many nodes to make and to keep, at most 2000.
    :param action_if_compute_node_inactive: what happens to a node that could not be made or was lost; the only
        documented value is ``RECREATE``, the default.
    :param resource_max_retry_count: how often making such a node is tried again, 0 to 100 (service default 7).
    :param env_type: ``MANAGED``; THPC makes environments of type ``THPC_QUEUE`` itself.
    """

    env_name: str
    desired_compute_node_count: NodeCount
    env_description: str | None = None
    env_type: EnvType | None = None
    env_data: EnvData | None = None
    mount_data_disks: list[MountDataDisk] | None = None
    authentications: list[Authentication] | None = None
    input_mappings: list[InputMapping] | None = None
    agent_running_mode: AgentRunningMode | None = None
    notifications: list[Notification] | None = None
    action_if_compute_node_inactive: str | None = None
    resource_max_retry_count: Percent | None = None
    tags: list[Tag] | None = Field(default=None, max_length=10)
    notification_target: NotificationTarget | None = None


class ComputeEnvData(ApiModel):
    """What of an environment's machines can be changed: the instance types, which are tried in order."""

    # The service has an error code for each: an empty list (InstanceTypesEmpty) and InstanceTypeDuplicate.
    instance_types: Distinct = Field(min_length=1)


class Instance(ApiModel):
    """A CVM instance of the user's own that joins an environment.

    :param instance_id: id of a running instance. Its system is **installed anew** and its UserData reset.
    :param image_id: what is installed.
    :param login_settings: how one logs in afterwards.
    """

    instance_id: str
    image_id: ImageId | None = None
    login_settings: LoginSettings | None = None
