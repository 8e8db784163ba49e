from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeJobResult, DescribeTask, DescribeTaskResult
from airflow_provider_tcbatch.policies.job.summary import summarise

BEGIN, END = "2026-01-31T12:00:00Z", "2026-01-31T12:01:30Z"


def job_view(tasks: list[dict[str, Any]], state: str = "SUCCEED", **members: Any) -> DescribeJobResult:
    return DescribeJob.result_type().parse_response(
        {
            "JobId": "job-1",
            "JobName": "etl",
            "JobState": state,
            "CreateTime": BEGIN,
            "EndTime": END,
            "TaskSet": tasks,
            **members,
        }
    )


def task_row(name: str | None = "main", state: str = "SUCCEED", end: str | None = END) -> dict[str, Any]:
    return {"TaskName": name, "TaskState": state, "CreateTime": BEGIN, "EndTime": end}


def detail(codes: list[int | None], **metrics: int) -> DescribeTaskResult:
    rows = [
        {"TaskInstanceIndex": index, "TaskInstanceState": "FAILED" if code else "SUCCEED", "ExitCode": code}
        for index, code in enumerate(codes)
    ]
    return DescribeTask.result_type().parse_response(
        {"JobId": "job-1", "TaskName": "main", "TaskInstanceSet": rows, "TaskInstanceMetrics": metrics}
    )


def test_a_success_is_summed_up_from_what_was_asked_for() -> None:
    outputs = [{"SourcePath": "/out", "DestinationPath": f"cos://b/{number}/"} for number in range(7)]
    requested = {"Tasks": [{"TaskName": "main", "TaskInstanceNum": 3, "OutputMappings": outputs}]}
    assert summarise(job_view([task_row()], TaskInstanceMetrics={"SucceedCount": 3}), requested, {}) == {
        "job_id": "job-1",
        "job_name": "etl",
        "state": "SUCCEED",
        "duration": 90.0,
        "instances": {"SUCCEED": 3},
        "tasks": {
            "main": {
                "state": "SUCCEED",
                "duration": 90.0,
                "instances": {"SUCCEED": 3},
                "exit_codes": {"0": 3},
                "outputs": [f"cos://b/{number}/" for number in range(5)],
            }
        },
    }


def test_a_task_that_names_no_number_has_one_instance() -> None:
    summary = summarise(job_view([task_row()]), {"Tasks": [{"TaskName": "main"}]}, {})
    assert summary["tasks"]["main"]["instances"] == {"SUCCEED": 1}


def test_a_failed_task_shows_its_exit_codes_by_number() -> None:
    seen = detail([0, 1, 137, 1, None], FailedCount=3, SucceedCount=1, FailedInterruptedCount=1)
    summary = summarise(job_view([task_row(state="FAILED")], "FAILED"), {"Tasks": []}, {"main": seen})
    assert summary["tasks"]["main"] == {
        "state": "FAILED",
        "duration": 90.0,
        "instances": {"SUCCEED": 1, "FAILED_INTERRUPTED": 1, "FAILED": 3},
        "exit_codes": {"1": 2, "0": 1, "137": 1},
    }


@pytest.mark.parametrize("requested", [{}, {"Tasks": None}, {"Tasks": [{"TaskInstanceNum": 8}]}])
def test_numbers_that_are_not_known_are_not_made_up(requested: dict[str, Any]) -> None:
    """The job may be one that somebody else submitted, or its tasks may have got their names from the service."""
    summary = summarise(job_view([task_row()]), requested, {})
    assert summary["tasks"]["main"] == {"state": "SUCCEED", "duration": 90.0}


def test_a_job_of_many_tasks_stays_small() -> None:
    tasks = [task_row(f"task-{number}") for number in range(60)]
    summary = summarise(job_view(tasks), {}, {})
    assert list(summary["tasks"]) == [f"task-{number}" for number in range(50)]
    assert summary["more_tasks"] == 10
    assert "more_tasks" not in summarise(job_view(tasks[:50]), {}, {})


def test_many_different_exit_codes_stay_few() -> None:
    seen = detail([*range(1, 100), 99])
    codes = summarise(job_view([task_row(state="FAILED")], "FAILED"), {}, {"main": seen})["tasks"]["main"]["exit_codes"]
    assert len(codes) == 20
    assert codes["99"] == 2


@pytest.mark.parametrize("end", [None, "", "yesterday", "2026-01-31T12:01:30"])
def test_a_time_that_can_not_be_read_is_no_duration(end: str | None) -> None:
    summary = summarise(job_view([task_row(end=end)], EndTime=end), {}, {})
    assert summary["duration"] is None
    assert summary["tasks"]["main"]["duration"] is None


def test_times_in_another_zone_are_understood() -> None:
    summary = summarise(job_view([task_row(end="2026-01-31T20:00:05+08:00")]), {}, {})
    assert summary["tasks"]["main"]["duration"] == 5.0


def test_a_job_that_shows_little_is_summed_up_all_the_same() -> None:
    view = DescribeJob.result_type().parse_response({"JobId": "job-1", "JobState": "RESTING"})
    assert summarise(view, {}, {}) == {
        "job_id": "job-1",
        "job_name": None,
        "state": "RESTING",
        "duration": None,
        "instances": {},
        "tasks": {},
    }
