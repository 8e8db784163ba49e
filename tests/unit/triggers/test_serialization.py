from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger

#: One value for each argument that is not the default.
OTHERS: dict[str, Any] = {
    "tencentcloud_conn_id": "other",
    "region": "ap-beijing",
    "poll_interval": 5.0,
    "deadlines": {"timeout": 12.5},
    "submitted_at": 1.5,
    "errors": 2,
    "min_success": 0,
    "fail_fast": True,
    "progress": True,
    "stream": 3,
    "cancel_on_kill": True,
}


def test_what_is_as_by_default_is_not_stored() -> None:
    assert TCBatchJobTrigger(job_id="job-1").serialize()[1] == {"job_id": "job-1"}
    assert TCBatchJobTrigger(job_id="job-1", deadlines={}, poll_interval=30).serialize()[1] == {"job_id": "job-1"}


@pytest.mark.parametrize("name", OTHERS)
def test_everything_else_is(name: str) -> None:
    given = {"job_id": "job-1", name: OTHERS[name]}
    assert TCBatchJobTrigger(**given).serialize()[1] == given


def test_no_argument_is_forgotten() -> None:
    given = {"job_id": "job-1", **OTHERS}
    assert TCBatchJobTrigger(**given).serialize()[1] == given
    assert vars(TCBatchJobTrigger(**given)).items() >= given.items()
