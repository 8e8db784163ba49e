"""Which machines there are to be had, and what they cost."""

from airflow_provider_tcbatch.models.answers import Listing
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.request import Action, Filter, Result

__all__ = [
    "DescribeAvailableCvmInstanceTypes",
    "DescribeAvailableCvmInstanceTypesResult",
    "DescribeCvmZoneInstanceConfigInfos",
    "DescribeCvmZoneInstanceConfigInfosResult",
    "DescribeInstanceCategories",
    "DescribeInstanceCategoriesResult",
    "Externals",
    "InstanceCategoryItem",
    "InstanceTypeConfig",
    "InstanceTypeQuotaItem",
    "ItemPrice",
    "LocalDiskType",
    "StorageBlock",
]


class InstanceTypeConfig(ApiModel):
    """An instance type in a zone; memory in GB."""

    mem: int | None = None
    cpu: int | None = None
    instance_type: str | None = None
    zone: str | None = None
    instance_family: str | None = None


class StorageBlock(ApiModel):
    """Local HDD storage; sizes in GiB."""

    type: str | None = None
    min_size: int | None = None
    max_size: int | None = None


class Externals(ApiModel):
    """Further properties of an instance type."""

    release_address: bool | None = None
    unsupport_networks: list[str] | None = None
    storage_block_attr: StorageBlock | None = None


class LocalDiskType(ApiModel):
    """A local disk; sizes in GB.

    :param required: ``REQUIRED`` or ``OPTIONAL``.
    """

    type: str | None = None
    partition_type: str | None = None
    min_size: int | None = None
    max_size: int | None = None
    required: str | None = None


class ItemPrice(ApiModel):
    """Price of an instance in yuan.

    Machines paid by the hour: ``unit_price`` per ``charge_unit``, ``unit_price_discount`` after discount. Where prices
    fall with time, the second step begins after 96 hours and the third after 360. Prepaid ones: ``original_price`` and
    ``discount_price``; the others are for one, three and five years. A discount of 20.0 means one fifth of the price.
    """

    unit_price: float | None = None
    charge_unit: str | None = None
    original_price: float | None = None
    discount_price: float | None = None
    discount: float | None = None
    unit_price_discount: float | None = None
    unit_price_second_step: float | None = None
    unit_price_discount_second_step: float | None = None
    unit_price_third_step: float | None = None
    unit_price_discount_third_step: float | None = None
    original_price_three_year: float | None = None
    discount_price_three_year: float | None = None
    discount_three_year: float | None = None
    original_price_five_year: float | None = None
    discount_price_five_year: float | None = None
    discount_five_year: float | None = None
    original_price_one_year: float | None = None
    discount_price_one_year: float | None = None
    discount_one_year: float | None = None


class InstanceTypeQuotaItem(ApiModel):
    """An instance type in a zone under one way of paying.

    :param memory: in GB.
    :param network_card: bandwidth class of the card (25 for 25G).
    :param instance_bandwidth: internal, in Gbps.
    :param instance_pps: packets per second, in units of 10,000.
    :param gpu_count: physical GPUs; below 1 for a share of one.
    :param status: ``SELL`` or ``SOLD_OUT``.
    :param status_category: ``EnoughStock``, ``NormalStock``, ``UnderStock`` or ``WithoutStock``.
    """

    zone: str | None = None
    instance_type: str | None = None
    instance_charge_type: str | None = None
    network_card: int | None = None
    externals: Externals | None = None
    cpu: int | None = None
    memory: int | None = None
    instance_family: str | None = None
    type_name: str | None = None
    local_disk_type_list: list[LocalDiskType] | None = None
    status: str | None = None
    price: ItemPrice | None = None
    sold_out_reason: str | None = None
    instance_bandwidth: float | None = None
    instance_pps: int | None = None
    storage_block_amount: int | None = None
    cpu_type: str | None = None
    gpu: int | None = None
    fpga: int | None = None
    remark: str | None = None
    gpu_count: float | None = None
    frequency: str | None = None
    status_category: str | None = None


class InstanceCategoryItem(ApiModel):
    """A class of instance families; its name is what ``InstanceTypeOptions.InstanceCategories`` takes."""

    instance_category: str | None = None
    instance_family_set: list[str] | None = None


class DescribeAvailableCvmInstanceTypesResult(Result):
    """Answer of DescribeAvailableCvmInstanceTypes."""

    instance_type_config_set: Listing[InstanceTypeConfig]


class DescribeAvailableCvmInstanceTypes(Action[DescribeAvailableCvmInstanceTypesResult]):
    """Instance types that Batch can use.

    :param filters: ``zone``, ``instance-family``.
    """

    filters: list[Filter] | None = None


class DescribeCvmZoneInstanceConfigInfosResult(Result):
    """Answer of DescribeCvmZoneInstanceConfigInfos."""

    instance_type_quota_set: Listing[InstanceTypeQuotaItem]


class DescribeCvmZoneInstanceConfigInfos(Action[DescribeCvmZoneInstanceConfigInfosResult]):
    """Instance types by zone, with stock and price.

    :param filters: ``zone``, ``instance-family``, ``instance-type``, ``instance-charge-type``.
    """

    filters: list[Filter] | None = None


class DescribeInstanceCategoriesResult(Result):
    """Answer of DescribeInstanceCategories."""

    instance_category_set: Listing[InstanceCategoryItem]


class DescribeInstanceCategories(Action[DescribeInstanceCategoriesResult]):
    """Classes of instance families."""
