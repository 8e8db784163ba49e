"""Buttons in the Airflow UI that lead to Tencent's console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["TCBatchJobLink"]


class TCBatchJobLink(BaseOperatorLink):
    """The job's page in the console. The operator stores its address before it begins to wait."""

    name = "Batch job"

    #: XCom key that holds the address.
    key = "tcbatch_job_url"

    @property
    def xcom_key(self) -> str:
        """Where the UI looks: what the operator stored at once, not what Airflow stores when the try has ended."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the stored address, or an empty string while there is no job yet."""
        return XCom.get_value(ti_key=ti_key, key=self.key) or ""
