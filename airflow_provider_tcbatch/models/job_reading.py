"""Actions that read jobs, tasks and task instances, and what these print and use."""

from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from airflow_provider_tcbatch.models.answers import Echo, Listing
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.job import Tag, Task
from airflow_provider_tcbatch.models.request import Action, Filter, Page, Result
from airflow_provider_tcbatch.models.states import WireEnum
from airflow_provider_tcbatch.models.views import (
    DataPointView,
    Dependence,
    JobView,
    KnownState,
    TaskInstanceLog,
    TaskInstanceMetrics,
    TaskInstanceView,
    TaskMetrics,
    TaskView,
)

__all__ = [
    "DescribeJob",
    "DescribeJobMonitorData",
    "DescribeJobMonitorDataResult",
    "DescribeJobResult",
    "DescribeJobSubmitInfo",
    "DescribeJobSubmitInfoResult",
    "DescribeJobs",
    "DescribeJobsResult",
    "DescribeTask",
    "DescribeTaskLogs",
    "DescribeTaskLogsResult",
    "DescribeTaskResult",
    "Dimension",
    "MetricName",
]


class DescribeJobResult(Result):
    """Answer of DescribeJob."""

    job_id: str
    job_name: str | None = None
    zone: str | None = None
    priority: int | None = None
    job_state: KnownState
    create_time: str | None = None
    end_time: str | None = None
    task_set: list[TaskView] | None = None
    dependence_set: list[Echo[Dependence]] | None = None
    task_metrics: TaskMetrics | None = None
    task_instance_metrics: TaskInstanceMetrics | None = None
    state_reason: str | None = None
    tags: list[Echo[Tag]] | None = None
    next_action: str | None = None


class DescribeJob(Action[DescribeJobResult]):
    """One job with its tasks."""

    job_id: str


class DescribeJobsResult(Result):
    """Answer of DescribeJobs; ids that the service does not know are simply absent."""

    job_set: Listing[JobView]
    total_count: int | None = None


class DescribeJobs(Action[DescribeJobsResult]):
    """Many jobs, by id (at most 100) or by filter.

    :param filters: ``job-id``, ``job-name``, ``job-state``, ``zone``, ``tag-key``, ``tag-value``, ``tag:<key>``.
    :param limit: service default 20, at most 100. Give it together with ids: it cuts them too.
    """

    job_ids: list[str] | None = Field(default=None, max_length=100)
    filters: list[Filter] | None = None
    offset: Page | None = None
    limit: int | None = Field(default=None, ge=0, le=100)

    @model_validator(mode="after")
    def _ids_or_filters(self) -> Self:
        self._exclusive("job_ids", "filters")
        return self


class DescribeJobSubmitInfoResult(Result):
    """Answer of DescribeJobSubmitInfo: what was submitted.

    Notifications, placement and policies of the job are not given back.
    """

    job_id: str
    job_name: str | None = None
    job_description: str | None = None
    priority: int | None = None
    tasks: list[Echo[Task]] | None = None
    dependences: list[Echo[Dependence]] | None = None
    tags: list[Echo[Tag]] | None = None


class DescribeJobSubmitInfo(Action[DescribeJobSubmitInfoResult]):
    """A job as it was submitted."""

    job_id: str


class DescribeTaskResult(Result):
    """Answer of DescribeTask."""

    job_id: str
    task_name: str | None = None
    task_state: KnownState | None = None
    create_time: str | None = None
    end_time: str | None = None
    task_instance_total_count: int | None = None
    task_instance_set: list[TaskInstanceView] | None = None
    task_instance_metrics: TaskInstanceMetrics | None = None


class DescribeTask(Action[DescribeTaskResult]):
    """One task with its instances.

    :param limit: service default 100, at most 1000.
    :param filters: ``task-instance-state``.
    """

    job_id: str
    task_name: str
    offset: Page | None = None
    limit: int | None = Field(default=None, ge=0, le=1000)
    filters: list[Filter] | None = None


class DescribeTaskLogsResult(Result):
    """Answer of DescribeTaskLogs."""

    total_count: int | None = None
    task_instance_log_set: list[TaskInstanceLog] | None = None


class DescribeTaskLogs(Action[DescribeTaskLogsResult]):
    """Preview of the output of at most 10 instances, by index or by page.

    :param limit: service default 5, at most 10.
    """

    job_id: str
    task_name: str
    task_instance_indexes: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, max_length=10)
    offset: Page | None = None
    limit: int | None = Field(default=None, ge=0, le=10)

    @model_validator(mode="after")
    def _indexes_or_page(self) -> Self:
        self._exclusive("task_instance_indexes", "offset")
        return self


class MetricName(WireEnum):
    """What is measured on the machine of an instance.

    Usages in percent, network traffic in bytes per second. MaxDiskUsage is the fullest disk, TargetDiskUsage one disk
    that is named by a :class:`Dimension`.
    """

    CPU_USAGE = "CpuUsage"
    MEM_USAGE = "MemUsage"
    LAN_OUT_TRAFFIC = "LanOuttraffic"
    LAN_IN_TRAFFIC = "LanIntraffic"
    MAX_DISK_USAGE = "MaxDiskUsage"
    TARGET_DISK_USAGE = "TargetDiskUsage"


class Dimension(ApiModel):
    """What exactly is measured: ``diskname`` and a disk such as ``vdb``, for TargetDiskUsage."""

    name: str
    value: str


class DescribeJobMonitorDataResult(Result):
    """Answer of DescribeJobMonitorData.

    :param period: seconds between two points; it grows with the span that is asked for.
    """

    period: int | None = None
    data_points: DataPointView | None = None


class DescribeJobMonitorData(Action[DescribeJobMonitorDataResult]):
    """What one instance used of its machine. Not for instances that ran in a compute environment.

    :param start_time: UTC, ``2025-01-31T12:00:00Z``; moved to the instance's own start if it is earlier or missing.
    :param end_time: likewise for its end.
    """

    job_id: str
    task_name: str
    task_instance_index: int = Field(ge=0)
    metric_name: MetricName
    start_time: str | None = None
    end_time: str | None = None
    dimensions: list[Dimension] | None = None
