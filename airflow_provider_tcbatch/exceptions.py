"""Everything that can go wrong between a DAG and Tencent Cloud Batch, by class.

The classes do not derive from ``AirflowException``: Airflow's retry policies match on the class of
an error, so a class says *what kind* of trouble it is, and the message says what was wrong, where,
and what to do::

    TCBatchError
    ├── ConfigurationError        a connection field or an argument is missing or wrong
    ├── InvalidRequest            a job (or any request) that the service would refuse; permanent
    ├── ApiError                  the service answered with an error code
    │   ├── InvalidRequest
    │   ├── PermissionDenied      credentials or CAM policy
    │   ├── NotFound
    │   ├── ResourceBusy          not now: the entity is in a state that forbids the action
    │   ├── QuotaExceeded
    │   ├── Throttled             request rate
    │   └── InfrastructureError   the service failed or could not be reached
    │       ├── ApiUnavailable    for longer than a wait puts up with
    │       └── KeysRefused       keys that are renewed by themselves were refused; also a ConfigurationError
    ├── ComputeEnvError           a compute environment did not come to what was wanted
    │   ├── ComputeEnvFailed      nodes of it can't be made, or were lost
    │   └── ComputeEnvTimeout     a limit was reached
    └── JobError                  the job was accepted and did not end well
        ├── JobFailed
        │   └── JobMachinesFailed its programs are not to blame
        ├── JobTimeout            a limit was reached
        │   └── ExecutionTimeout
        └── QueueTimeout          nothing of it ever started
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_tcbatch.text import visible

__all__ = [
    "ApiError",
    "ApiUnavailable",
    "ComputeEnvError",
    "ComputeEnvFailed",
    "ComputeEnvTimeout",
    "ConfigurationError",
    "ExecutionTimeout",
    "InfrastructureError",
    "InvalidRequest",
    "JobError",
    "JobFailed",
    "JobMachinesFailed",
    "JobTimeout",
    "KeysRefused",
    "NotFound",
    "PermissionDenied",
    "QueueTimeout",
    "QuotaExceeded",
    "ResourceBusy",
    "ServerNotTrusted",
    "TCBatchError",
    "Throttled",
]


class TCBatchError(Exception):
    """Base class of every error raised on purpose by this provider."""

    def __str__(self) -> str:
        """The message; what a job or the service wrote into it can do nothing to a terminal."""
        return visible(super().__str__())


class ConfigurationError(TCBatchError):
    """A connection field or an operator argument is missing or wrong; the message names it."""


class ApiError(TCBatchError):
    """The service refused or failed an API call.

    :param message: what happened, readable by a user.
    :param code: error code as the service spells it (``InvalidParameter.JobNameTooLong``), or the
        SDK's ``ClientNetworkError`` / ``ServerNetworkError``, or an empty string.
    :param action: name of the API action.
    :param request_id: id to quote to Tencent's support; ``None`` if no answer arrived.
    :param retryable: whether sending the same request again may help.
    """

    #: Whether the request may have been carried out all the same: its answer was lost, or that of an earlier attempt.
    maybe_done: bool = False

    #: Unix seconds when the first request was sent whose answer was lost; ``None`` if that is not known, or none was.
    lost_at: float | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        action: str | None = None,
        request_id: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.action = action
        self.request_id = request_id
        self.retryable = retryable


class InvalidRequest(ApiError):
    """A request that the service refuses, or would refuse; sending it again cannot help.

    :param problems: one line per fault, each beginning with the path of the field.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        action: str | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(message, code=code, action=action, request_id=request_id, retryable=retryable)
        self.problems = tuple(problems)


class PermissionDenied(ApiError):
    """Credentials are wrong or lack a CAM permission."""


class NotFound(ApiError):
    """The named job, task, environment, template, queue or topic does not exist."""


class ResourceBusy(ApiError):
    """The entity is in a state that forbids the action now."""


class QuotaExceeded(ApiError):
    """A quota of the account (jobs, CPUs, environments) is used up."""


class Throttled(ApiError):
    """More requests per second than the account may send. Nothing was carried out."""

    #: Unix seconds since when this request has waited for its turn.
    since: float | None = None


class InfrastructureError(ApiError):
    """The service failed, or could not be reached."""

    maybe_done = True


class ApiUnavailable(InfrastructureError):
    """The service could not be asked for longer than a task puts up with (``[tcbatch] api_patience``).

    It says nothing about a job, and none was ended for it.
    """


class KeysRefused(InfrastructureError, ConfigurationError):
    """Keys that are renewed by themselves (of a role, of a pod) were refused, and new ones too, or can't be had.

    That passes, or somebody sets it right: it is no verdict about a job, and another try may do. Keys that nobody
    renews, and rights that are missing, are :class:`PermissionDenied`.
    """

    maybe_done = False


class ServerNotTrusted(InfrastructureError, ConfigurationError):
    """The certificate of a server is of no authority that is trusted here, or of another host: set ``ca_file``.

    That is no outage: the same request is refused again until somebody sets it right.
    """

    maybe_done = False


class ComputeEnvError(TCBatchError):
    """A compute environment did not come to what was wanted.

    :param message: readable report.
    :param env_id: id of the environment.
    """

    def __init__(self, message: str, *, env_id: str) -> None:
        super().__init__(message)
        self.env_id = env_id


class ComputeEnvFailed(ComputeEnvError):
    """Nodes of the environment can't be made, or were lost."""


class ComputeEnvTimeout(ComputeEnvError):
    """The environment did not come to what was wanted within ``timeout`` or ``execution_timeout``."""


class JobError(TCBatchError):
    """A job was accepted and did not end well.

    :param message: readable report.
    :param job_id: id of the job.
    """

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobFailed(JobError):
    """The job ended as FAILED or FAILED_INTERRUPTED.

    :param exit_codes: exit codes of the failed instances that were looked at, in order.
    """

    def __init__(self, message: str, *, job_id: str, exit_codes: Sequence[int | None] = ()) -> None:
        super().__init__(message, job_id=job_id)
        self.exit_codes = tuple(exit_codes)


class JobMachinesFailed(JobFailed):
    """The job failed, but none of its programs ended with an error: machines could not be made, or were lost."""


class JobTimeout(JobError):
    """The job did not end within ``timeout``."""


class ExecutionTimeout(JobTimeout):
    """The job did not end within the ``execution_timeout`` of the try that waited for it."""


class QueueTimeout(JobError):
    """No instance of the job started within ``queue_timeout``."""
