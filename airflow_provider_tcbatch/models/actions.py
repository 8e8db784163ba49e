"""One request class per API action; each names the type of its answer.

``client.call(DescribeJob(job_id=...))`` returns a :class:`DescribeJobResult`: there is no second list of
methods to keep in step, neither for sync and async nor for client and hook.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.compute_env import Placement
from airflow_provider_tcbatch.models.job import Job, Tag
from airflow_provider_tcbatch.models.views import (
    Dependence,
    InstanceMetrics,
    JobView,
    KnownState,
    TaskInstanceLog,
    TaskInstanceView,
    TaskView,
)

__all__ = [
    "Action",
    "DescribeJob",
    "DescribeJobs",
    "DescribeTask",
    "DescribeTaskLogs",
    "Filter",
    "SubmitJob",
    "TerminateJob",
]


class Result(ApiModel):
    """Base of all answers."""

    request_id: str | None = None


ResultT = TypeVar("ResultT", bound=Result)


class Action(ApiModel, Generic[ResultT]):
    """Base of all requests.

    :cvar service: product in the API's host name and signature.
    :cvar version: version of the product's API.
    :cvar repeatable: whether sending the request twice does no more than sending it once.
    """

    service: ClassVar[str] = "batch"
    version: ClassVar[str] = "2017-03-12"
    repeatable: ClassVar[bool] = True

    @classmethod
    def name(cls) -> str:
        """Name of the action on the wire."""
        return cls.__name__

    @classmethod
    def result_type(cls) -> type[ResultT]:
        """Type of the answer: the argument that the class was parametrised with."""
        for base in cls.__mro__:
            metadata: dict[str, Any] = getattr(base, "__pydantic_generic_metadata__", {})
            if arguments := metadata.get("args"):
                result: type[ResultT] = arguments[0]
                return result
        raise TypeError(f"{cls.__name__} does not name its result type: derive it from Action[...]")

    @property
    def may_repeat(self) -> bool:
        """Whether this very request may be sent again when its answer was lost."""
        return self.repeatable


class Filter(ApiModel):
    """A condition on a list: values are alternatives, several filters must all hold."""

    name: str
    values: list[str]


class SubmitJobResult(Result):
    """Answer of SubmitJob. The id comes before the job has been parsed."""

    job_id: str


class SubmitJob(Action[SubmitJobResult]):
    """Submit a job; with a ``client_token`` (at most 64 ASCII characters) the same job only once."""

    repeatable: ClassVar[bool] = False

    placement: Placement
    job: Job
    client_token: str | None = Field(default=None, max_length=64)

    @property
    def may_repeat(self) -> bool:
        return self.client_token is not None


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
    dependence_set: list[Dependence] | None = None
    task_metrics: InstanceMetrics | None = None
    task_instance_metrics: InstanceMetrics | None = None
    state_reason: str | None = None
    tags: list[Tag] | None = None
    next_action: str | None = None


class DescribeJob(Action[DescribeJobResult]):
    """One job with its tasks."""

    job_id: str


class DescribeJobsResult(Result):
    """Answer of DescribeJobs; ids that the service does not know are simply absent."""

    job_set: list[JobView]
    total_count: int | None = None


class DescribeJobs(Action[DescribeJobsResult]):
    """Many jobs, by id (at most 100) or by filter. The service's default ``limit`` is 20, its highest 100."""

    job_ids: list[str] | None = Field(default=None, max_length=100)
    filters: list[Filter] | None = None
    offset: int | None = None
    limit: int | None = None


class DescribeTaskResult(Result):
    """Answer of DescribeTask."""

    job_id: str
    task_name: str | None = None
    task_state: KnownState | None = None
    create_time: str | None = None
    end_time: str | None = None
    task_instance_total_count: int | None = None
    task_instance_set: list[TaskInstanceView] | None = None
    task_instance_metrics: InstanceMetrics | None = None


class DescribeTask(Action[DescribeTaskResult]):
    """One task with its instances (``limit`` 100 by default, at most 1000)."""

    job_id: str
    task_name: str
    offset: int | None = Field(default=None, ge=0)
    limit: int | None = Field(default=None, ge=0)
    filters: list[Filter] | None = None


class DescribeTaskLogsResult(Result):
    """Answer of DescribeTaskLogs."""

    total_count: int | None = None
    task_instance_log_set: list[TaskInstanceLog] | None = None


class DescribeTaskLogs(Action[DescribeTaskLogsResult]):
    """Preview of the output of at most 10 instances, by index or by page."""

    job_id: str
    task_name: str
    task_instance_indexes: list[int] | None = None
    offset: int | None = Field(default=None, ge=0)
    limit: int | None = Field(default=None, ge=0)


class TerminateJobResult(Result):
    """Answer of TerminateJob, which only says that the request was accepted."""


class TerminateJob(Action[TerminateJobResult]):
    """End a job. Asynchronous; refused while the job is SUBMITTED, without effect once it SUCCEED-ed."""

    job_id: str
