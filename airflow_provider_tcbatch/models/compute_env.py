"""Machines: how the CVM instances of a job or of a compute environment are made."""

from pydantic import Field, SecretStr, model_validator
from typing_extensions import Self

from airflow_provider_tcbatch.models.base import ApiModel, Distinct

__all__ = [
    "AgentRunningMode",
    "AnonymousComputeEnv",
    "DataDisk",
    "EnhancedService",
    "EnvData",
    "InstanceMarketOptionsRequest",
    "InstanceTypeOptions",
    "InternetAccessible",
    "LoginSettings",
    "MountDataDisk",
    "Placement",
    "RunAutomationServiceEnabled",
    "RunMonitorServiceEnabled",
    "RunSecurityServiceEnabled",
    "SpotMarketOptions",
    "SystemDisk",
    "VirtualPrivateCloud",
]


class Placement(ApiModel):
    """Where machines are made.

    :param zone: availability zone, which must lie in the request's region (``ap-guangzhou-3``).
    """

    zone: str
    project_id: int | None = None
    host_ids: list[str] | None = None
    host_id: str | None = None
    dedicated_resource_pack_tenancy: str | None = None
    dedicated_resource_pack_ids: list[str] | None = None
    rack_id: str | None = None


class SystemDisk(ApiModel):
    """System disk of a CVM instance; size in GB."""

    disk_type: str | None = None
    disk_id: str | None = None
    disk_size: int | None = None
    cdc_id: str | None = None
    disk_name: str | None = None
    encrypt: bool | None = None
    kms_key_id: str | None = None


class DataDisk(ApiModel):
    """Data disk of a CVM instance; size in GB."""

    disk_size: int
    disk_type: str | None = None
    disk_id: str | None = None
    delete_with_instance: bool | None = None
    snapshot_id: str | None = None
    encrypt: bool | None = None
    kms_key_id: str | None = None
    throughput_performance: int | None = None
    cdc_id: str | None = None
    burst_performance: bool | None = None
    disk_name: str | None = None


class VirtualPrivateCloud(ApiModel):
    """Network of a CVM instance."""

    vpc_id: str
    subnet_id: str
    as_vpc_gateway: bool | None = None
    private_ip_addresses: list[str] | None = None
    ipv6_address_count: int | None = Field(default=None, alias="Ipv6AddressCount", ge=0)


class InternetAccessible(ApiModel):
    """Public network of a CVM instance; bandwidth in Mbps."""

    internet_charge_type: str | None = None
    internet_max_bandwidth_out: int | None = None
    public_ip_assigned: bool | None = None
    bandwidth_package_id: str | None = None
    internet_service_provider: str | None = None
    ipv4_address_type: str | None = Field(default=None, alias="IPv4AddressType")
    ipv6_address_type: str | None = Field(default=None, alias="IPv6AddressType")
    anti_ddos_package_id: str | None = Field(default=None, alias="AntiDDoSPackageId")


class LoginSettings(ApiModel):
    """How one logs in to a CVM instance."""

    password: SecretStr | None = None
    key_ids: list[str] | None = None
    keep_image_login: str | None = None


class RunSecurityServiceEnabled(ApiModel):
    """Whether the cloud security agent is installed."""

    enabled: bool | None = None


class RunMonitorServiceEnabled(ApiModel):
    """Whether the cloud monitor agent is installed."""

    enabled: bool | None = None


class RunAutomationServiceEnabled(ApiModel):
    """Whether the automation agent (TAT) is installed."""

    enabled: bool | None = None


class EnhancedService(ApiModel):
    """Agents that CVM installs on the instance."""

    security_service: RunSecurityServiceEnabled | None = None
    monitor_service: RunMonitorServiceEnabled | None = None
    automation_service: RunAutomationServiceEnabled | None = None


class SpotMarketOptions(ApiModel):
    """Bid for spot instances.

    :param max_price: highest price per hour, as a decimal string.
    """

    max_price: str
    spot_instance_type: str | None = None


class InstanceMarketOptionsRequest(ApiModel):
    """Market of a spot instance."""

    spot_options: SpotMarketOptions
    market_type: str | None = None


class InstanceTypeOptions(ApiModel):
    """Any instance type with this many cores and this much memory (GB)."""

    cpu: int = Field(alias="CPU", ge=0)
    memory: int = Field(ge=0)
    instance_categories: list[str] | None = None


class EnvData(ApiModel):
    """Configuration of the CVM instances.

    ``instance_type``, ``instance_types`` (at most 10, tried in order) and ``instance_type_options``
    exclude one another; so do ``virtual_private_cloud``, ``virtual_private_clouds`` and ``zones``.
    """

    instance_type: str | None = None
    image_id: str | None = None
    system_disk: SystemDisk | None = None
    data_disks: list[DataDisk] | None = None
    virtual_private_cloud: VirtualPrivateCloud | None = None
    internet_accessible: InternetAccessible | None = None
    instance_name: str | None = None
    login_settings: LoginSettings | None = None
    security_group_ids: list[str] | None = None
    enhanced_service: EnhancedService | None = None
    instance_charge_type: str | None = None
    instance_market_options: InstanceMarketOptionsRequest | None = None
    instance_types: Distinct | None = Field(default=None, max_length=10)
    instance_type_options: InstanceTypeOptions | None = None
    zones: list[str] | None = None
    virtual_private_clouds: list[VirtualPrivateCloud] | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        self._exclusive("instance_type", "instance_types", "instance_type_options")
        self._exclusive("virtual_private_cloud", "virtual_private_clouds", "zones")
        return self


class MountDataDisk(ApiModel):
    """Where a data disk is mounted; in the order of the data disks."""

    local_path: str
    file_system_type: str | None = None


class AgentRunningMode(ApiModel):
    """How the Batch agent runs on Windows."""

    scene: str
    user: str
    session: str


class AnonymousComputeEnv(ApiModel):
    """Machines made for one task of one job and removed afterwards."""

    env_type: str | None = None
    env_data: EnvData | None = None
    mount_data_disks: list[MountDataDisk] | None = None
    agent_running_mode: AgentRunningMode | None = None
