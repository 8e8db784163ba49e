"""What the Describe actions return.

Answers are read tolerantly: every member may be missing or null, new members are ignored, and a state
that this version does not know stays a plain string.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.compute_env import Placement
from airflow_provider_tcbatch.models.job import Dependence, Tag
from airflow_provider_tcbatch.models.states import State

__all__ = [
    "Dependence",
    "InstanceMetrics",
    "JobView",
    "KnownState",
    "LogLocation",
    "TaskInstanceLog",
    "TaskInstanceView",
    "TaskView",
]

KnownState = Annotated[State | str, Field(union_mode="left_to_right")]


class InstanceMetrics(ApiModel):
    """How many tasks, or task instances, are in each state."""

    submitted_count: int = 0
    pending_count: int = 0
    runnable_count: int = 0
    starting_count: int = 0
    running_count: int = 0
    succeed_count: int = 0
    failed_interrupted_count: int = 0
    failed_count: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.model_dump().values())

    @property
    def failed(self) -> int:
        """Those that ended badly."""
        return self.failed_count + self.failed_interrupted_count


class JobView(ApiModel):
    """A job in the answer of DescribeJobs. It has no reason, no next action and no instance counts."""

    job_id: str
    job_name: str | None = None
    job_state: KnownState
    priority: int | None = None
    placement: Placement | None = None
    create_time: str | None = None
    end_time: str | None = None
    task_metrics: InstanceMetrics | None = None
    tags: list[Tag] | None = None


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
