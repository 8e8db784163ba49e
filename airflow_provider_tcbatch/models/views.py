"""What the Describe actions return about jobs.

Answers are read tolerantly: every member may be missing or null, new members are ignored, and a state that this version
does not know stays a plain string.
"""

from airflow_provider_tcbatch.models.answers import Count, Echo, KnownState
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.compute_env import Placement
from airflow_provider_tcbatch.models.job import Dependence, Tag

__all__ = [
    "DataPointView",
    "Dependence",
    "InstanceMetrics",
    "JobView",
    "KnownState",
    "LogLocation",
    "TaskInstanceLog",
    "TaskInstanceMetrics",
    "TaskInstanceView",
    "TaskMetrics",
    "TaskView",
]


class InstanceMetrics(ApiModel):
    """How many tasks, or task instances, are in each state."""

    submitted_count: Count = 0
    pending_count: Count = 0
    runnable_count: Count = 0
    starting_count: Count = 0
    running_count: Count = 0
    succeed_count: Count = 0
    failed_interrupted_count: Count = 0
    failed_count: Count = 0

    @property
    def counts(self) -> tuple[int, ...]:
        """How many are in each state, in the order of the fields."""
        return (
            self.submitted_count,
            self.pending_count,
            self.runnable_count,
            self.starting_count,
            self.running_count,
            self.succeed_count,
            self.failed_interrupted_count,
            self.failed_count,
        )

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts)

    @property
    def failed(self) -> int:
        """Those that ended badly."""
        return self.failed_count + self.failed_interrupted_count


class TaskMetrics(InstanceMetrics):
    """How many tasks of a job are in each state."""


class TaskInstanceMetrics(InstanceMetrics):
    """How many task instances of a job or a task are in each state."""


class JobView(ApiModel):
    """A job in the answer of DescribeJobs. It has no reason, no next action and no instance counts."""

    job_id: str
    job_name: str | None = None
    job_state: KnownState
    priority: int | None = None
    placement: Echo[Placement] | None = None
    create_time: str | None = None
    end_time: str | None = None
    task_metrics: TaskMetrics | None = None
    tags: list[Echo[Tag]] | None = None


class TaskView(ApiModel):
    """A task in the answer of DescribeJob; just after submission the times may be missing."""

    task_name: str | None = None
    task_state: KnownState | None = None
    create_time: str | None = None
    end_time: str | None = None


class LogLocation(ApiModel):
    """Where an instance's output was redirected to, names resolved."""

    stdout_redirect_path: str | None = None
    stderr_redirect_path: str | None = None
    stdout_redirect_file_name: str | None = None
    stderr_redirect_file_name: str | None = None


class TaskInstanceView(ApiModel):
    """One instance of a task."""

    task_instance_index: int
    task_instance_state: KnownState | None = None
    exit_code: int | None = None
    state_reason: str | None = None
    compute_node_instance_id: str | None = None
    create_time: str | None = None
    launch_time: str | None = None
    running_time: str | None = None
    end_time: str | None = None
    redirect_info: LogLocation | None = None
    state_detailed_reason: str | None = None


class TaskInstanceLog(LogLocation):
    """Preview of an instance's output: base64, at most 2048 bytes decoded."""

    task_instance_index: int
    stdout_log: str | None = None
    stderr_log: str | None = None


class DataPointView(ApiModel):
    """A measured series: ``values[n]`` was measured at ``timestamps[n]`` (unix seconds).

    A value is ``None`` where no instance existed at that time, between two tries of a retried instance.
    """

    timestamps: list[int] | None = None
    values: list[float | None] | None = None
