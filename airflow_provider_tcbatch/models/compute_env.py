"""Machines: how the CVM instances of a job or of a compute environment are made."""

from pydantic import Field, SecretStr, model_validator
from typing_extensions import Self

from airflow_provider_tcbatch.models.base import ApiModel, Distinct
from airflow_provider_tcbatch.models.states import WireEnum
from airflow_provider_tcbatch.models.values import Count, DataDiskSize, ImageId, Integer, LocalPath, Price, ZoneName

__all__ = [
    "AgentRunningMode",
    "AnonymousComputeEnv",
    "DataDisk",
    "EnhancedService",
    "EnvData",
    "FileSystemType",
    "InstanceCategory",
    "InstanceChargeType",
    "InstanceMarketOptionsRequest",
    "InstanceTypeOptions",
    "InternetAccessible",
    "LoginSettings",
    "MarketType",
    "MountDataDisk",
    "Placement",
    "RunAutomationServiceEnabled",
    "RunMonitorServiceEnabled",
    "RunSecurityServiceEnabled",
    "SpotInstanceType",
    "SpotMarketOptions",
    "SystemDisk",
    "VirtualPrivateCloud",
]


class FileSystemType(WireEnum):
    """EXT3 (the default) and EXT4 on Linux, NTFS on Windows."""

    EXT3 = "EXT3"
    EXT4 = "EXT4"
    NTFS = "NTFS"


class InstanceChargeType(WireEnum):
    """POSTPAID_BY_HOUR is the default; SPOTPAID goes with ``instance_market_options``."""

    POSTPAID_BY_HOUR = "POSTPAID_BY_HOUR"
    SPOTPAID = "SPOTPAID"


class MarketType(WireEnum):
    """The only market there is."""

    SPOT = "spot"


class SpotInstanceType(WireEnum):
    """The only kind of bid there is."""

    ONE_TIME = "one-time"


class InstanceCategory(WireEnum):
    """Kinds of instance types; ALL is the default."""

    ALL = "ALL"
    GENERAL = "GENERAL"
    GENERAL_2 = "GENERAL_2"
    GENERAL_3 = "GENERAL_3"
    COMPUTE = "COMPUTE"
    COMPUTE_2 = "COMPUTE_2"
    COMPUTE_3 = "COMPUTE_3"


class Placement(ApiModel):
    """Where machines are made.

    :param zone: availability zone, which must lie in the request's region (``ap-guangzhou-3``).
    """

    zone: ZoneName
    project_id: Integer | None = None
    host_ids: list[str] | None = None
    host_id: str | None = None
    dedicated_resource_pack_tenancy: str | None = None
    dedicated_resource_pack_ids: list[str] | None = None
    rack_id: str | None = None


class SystemDisk(ApiModel):
    """System disk of a CVM instance; size in GB."""

    disk_type: str | None = None
    disk_id: str | None = None
    disk_size: Count | None = None
    cdc_id: str | None = None
    disk_name: str | None = None
    encrypt: bool | None = None
    kms_key_id: str | None = None


class DataDisk(ApiModel):
    """Data disk of a CVM instance; size in GB."""

    disk_size: DataDiskSize
    disk_type: str | None = None
    disk_id: str | None = None
    delete_with_instance: bool | None = None
    snapshot_id: str | None = None
    encrypt: bool | None = None
    kms_key_id: str | None = None
    throughput_performance: Count | None = None
    cdc_id: str | None = None
    burst_performance: bool | None = None
    disk_name: str | None = None


class VirtualPrivateCloud(ApiModel):
    """Network of a CVM instance."""

    vpc_id: str
    subnet_id: str
    as_vpc_gateway: bool | None = None
    private_ip_addresses: list[str] | None = None
    ipv6_address_count: Count | None = Field(default=None, alias="Ipv6AddressCount")


class InternetAccessible(ApiModel):
    """Public network of a CVM instance; bandwidth in Mbps."""

    internet_charge_type: str | None = None
    internet_max_bandwidth_out: Count | None = None
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

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.key_ids and self.password is not None and self.password.get_secret_value():
            raise ValueError("Password and KeyIds exclude one another; keep one of them")
        return self


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

    max_price: Price
    spot_instance_type: SpotInstanceType | None = None


class InstanceMarketOptionsRequest(ApiModel):
    """Market of a spot instance."""

    spot_options: SpotMarketOptions
    market_type: MarketType | None = None


class InstanceTypeOptions(ApiModel):
    """Any instance type with this many cores and this much memory (GB)."""

    cpu: Count = Field(alias="CPU")
    memory: Count
    instance_categories: list[InstanceCategory] | None = None


class EnvData(ApiModel):
    """Configuration of the CVM instances.

    ``instance_type``, ``instance_types`` (at most 10, tried in order) and ``instance_type_options``
    exclude one another; so do ``virtual_private_cloud``, ``virtual_private_clouds`` and ``zones``.
    """

    instance_type: str | None = None
    image_id: ImageId | None = None
    system_disk: SystemDisk | None = None
    data_disks: list[DataDisk] | None = None
    virtual_private_cloud: VirtualPrivateCloud | None = None
    internet_accessible: InternetAccessible | None = None
    instance_name: str | None = None
    login_settings: LoginSettings | None = None
    security_group_ids: list[str] | None = None
    enhanced_service: EnhancedService | None = None
    instance_charge_type: InstanceChargeType | None = None
    instance_market_options: InstanceMarketOptionsRequest | None = None
    instance_types: Distinct | None = Field(default=None, max_length=10)
    instance_type_options: InstanceTypeOptions | None = None
    zones: list[ZoneName] | None = None
    virtual_private_clouds: list[VirtualPrivateCloud] | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        self._exclusive("instance_type", "instance_types", "instance_type_options")
        self._exclusive("virtual_private_cloud", "virtual_private_clouds", "zones")
        return self


class MountDataDisk(ApiModel):
    """Where a data disk is mounted; in the order of the data disks."""

    local_path: LocalPath
    file_system_type: FileSystemType | None = None


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
