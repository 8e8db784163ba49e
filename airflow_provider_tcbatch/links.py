"""Buttons in the Airflow UI that lead to Tencent's console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["TCBatchComputeEnvLink", "TCBatchJobLink", "TCBatchLogsLink", "TCBatchTaskTemplateLink"]


class _ConsoleLink(BaseOperatorLink):
    """A page of the console. The operator stores its address as soon as it is known.

    The UI reads what is stored. Airflow's workers would ask each link for its address at the end of each run and store
    it once more, an empty one too; ours are left out there, see
    :class:`~airflow_provider_tcbatch.operators._base.worker.OnWorker`.
    """

    #: XCom key that holds the address.
    key: str

    @property
    def xcom_key(self) -> str:
        """Where the UI looks: what the operator stored at once, not what Airflow stores when the try has ended."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the stored address, or an empty string while there is none.

        A worker asks only where none of our code has run: a mapped task whose arguments could not be rendered.
        """
        return XCom.get_value(ti_key=ti_key, key=self.key) or ""


class TCBatchJobLink(_ConsoleLink):
    """The job's page."""

    name = "Batch job"
    key = "tcbatch_job_url"


class TCBatchComputeEnvLink(_ConsoleLink):
    """The page of the compute environment that the job runs in, or that the task manages."""

    name = "Compute environment"
    key = "tcbatch_env_url"


class TCBatchTaskTemplateLink(_ConsoleLink):
    """The page of the task template that the task uses or manages."""

    name = "Task template"
    key = "tcbatch_template_url"


class TCBatchLogsLink(_ConsoleLink):
    """The folder in COS that the job's output goes to."""

    name = "Logs in COS"
    key = "tcbatch_logs_url"
