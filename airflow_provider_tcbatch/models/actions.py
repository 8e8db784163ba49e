"""Actions on jobs, tasks and task instances.

Those that write and those that read stand in modules of their own: a task that submits a job needs no answers of the
others. Those on compute environments, task templates and machine types stand in ``env_actions``, ``template_actions``
and ``machine_actions``; what all requests have in common stands in ``request``.
"""

from airflow_provider_tcbatch.models.job import Job as Job
from airflow_provider_tcbatch.models.job_reading import (
    DescribeJob,
    DescribeJobMonitorData,
    DescribeJobMonitorDataResult,
    DescribeJobResult,
    DescribeJobs,
    DescribeJobsResult,
    DescribeJobSubmitInfo,
    DescribeJobSubmitInfoResult,
    DescribeTask,
    DescribeTaskLogs,
    DescribeTaskLogsResult,
    DescribeTaskResult,
    Dimension,
    MetricName,
)
from airflow_provider_tcbatch.models.job_writing import (
    DeleteJob,
    DeleteJobResult,
    RetryJobs,
    RetryJobsResult,
    SubmitJob,
    SubmitJobResult,
    TerminateJob,
    TerminateJobResult,
    TerminateTaskInstance,
    TerminateTaskInstanceResult,
)
from airflow_provider_tcbatch.models.request import (
    Action,
    Filter,
    Result,
)

__all__ = [
    "Action",
    "DeleteJob",
    "DeleteJobResult",
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
    "Filter",
    "MetricName",
    "Result",
    "RetryJobs",
    "RetryJobsResult",
    "SubmitJob",
    "SubmitJobResult",
    "TerminateJob",
    "TerminateJobResult",
    "TerminateTaskInstance",
    "TerminateTaskInstanceResult",
]
