"""Actions that submit, end, repeat and forget jobs."""

from typing import ClassVar

from pydantic import Field

from airflow_provider_tcbatch.models.compute_env import Placement
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.request import Action, ClientToken, Result

__all__ = [
    "DeleteJob",
    "DeleteJobResult",
    "RetryJobs",
    "RetryJobsResult",
    "SubmitJob",
    "SubmitJobResult",
    "TerminateJob",
    "TerminateJobResult",
    "TerminateTaskInstance",
    "TerminateTaskInstanceResult",
]


class SubmitJobResult(Result):
    """Answer of SubmitJob. The id comes before the job has been parsed."""

    job_id: str


class SubmitJob(Action[SubmitJobResult]):
    """Submit a job; with a ``client_token`` (at most 64 ASCII characters) the same job only once."""

    repeatable: ClassVar[bool] = False

    placement: Placement
    job: Job
    client_token: ClientToken | None = None

    @property
    def may_repeat(self) -> bool:
        return self.client_token is not None


class TerminateJobResult(Result):
    """Answer of TerminateJob, which only says that the request was accepted."""


class TerminateJob(Action[TerminateJobResult]):
    """End a job. Asynchronous; refused while the job is SUBMITTED, without effect once it SUCCEED-ed.

    Repeating is harmless: instances that have ended are left alone, and a job that is ending can't end twice.
    """

    job_id: str


class TerminateTaskInstanceResult(Result):
    """Answer of TerminateTaskInstance, which only says that the request was accepted."""


class TerminateTaskInstance(Action[TerminateTaskInstanceResult]):
    """End one instance of a task; it becomes FAILED.

    Asynchronous where a machine has to go first: without an EnvId it is destroyed, with one it is rebooted. Repeating
    is harmless: an instance that is SUCCEED or FAILED is left alone.
    """

    job_id: str
    task_name: str
    task_instance_index: int = Field(ge=0)


class RetryJobsResult(Result):
    """Answer of RetryJobs, which only says that the request was accepted."""


class RetryJobs(Action[RetryJobsResult]):
    """Run the failed instances of FAILED jobs (at most 100) again; what succeeded is left alone.

    Asynchronous: the jobs still read FAILED for a while. Not repeatable: a job that has failed anew in the meantime
    would be run once more.
    """

    repeatable: ClassVar[bool] = False

    job_ids: list[str] = Field(max_length=100)


class DeleteJobResult(Result):
    """Answer of DeleteJob."""


class DeleteJob(Action[DeleteJobResult]):
    """Remove the record of a job that has ended, instances included; nothing about it can be read afterwards.

    FAILED_INTERRUPTED does not count as ended. Repeating is harmless: ids are not used again, a second deletion is
    answered with ResourceNotFound.Job.
    """

    job_id: str
