"""Answers are read tolerantly."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from airflow_provider_tcbatch.models.actions import (
    DescribeJobMonitorDataResult,
    DescribeJobResult,
    DescribeJobsResult,
    DescribeJobSubmitInfoResult,
    SubmitJobResult,
)
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvCreateInfoResult, DescribeComputeEnvResult
from airflow_provider_tcbatch.models.env_views import ComputeNodeMetrics
from airflow_provider_tcbatch.models.job import FailedAction, Job, Task
from airflow_provider_tcbatch.models.states import ComputeNodeState, State
from airflow_provider_tcbatch.models.views import InstanceMetrics
from tests.unit.models.catalogue import ACTIONS
from tests.unit.models.strategies import wire
from tests.unit.models.test_wire import places, put

ANSWERS = sorted({action.result_type() for action in ACTIONS}, key=lambda model: model.__name__)


def required(model: type[ApiModel]) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items() if info.is_required()}


@pytest.mark.parametrize("model", ANSWERS, ids=lambda model: model.__name__)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_new_members_are_ignored_and_optional_ones_may_be_null(model: type[ApiModel], data: st.DataObject) -> None:
    answer: dict[Any, Any] = dict.fromkeys(info.alias for info in model.model_fields.values())
    answer |= data.draw(wire(model))
    model.parse_response(answer)
    model.parse_response({**_with_news(answer), "NewMember": [None]})


def _with_news(data: Any) -> Any:
    """The same with an unknown member in every object below."""
    if isinstance(data, list):
        return [_with_news(item) for item in data]
    if isinstance(data, dict):
        return {"NewMember": {"a": 1}} | {key: _with_news(item) for key, item in data.items()}
    return data


@pytest.mark.parametrize("model", [model for model in ANSWERS if required(model)], ids=lambda model: model.__name__)
def test_an_answer_without_what_it_must_hold_is_none(model: type[ApiModel]) -> None:
    with pytest.raises(ValidationError):
        model.parse_response({"RequestId": "r"})


def test_what_can_not_be_done_without() -> None:
    needed = {model.__name__: required(model) for model in ANSWERS}
    assert needed["SubmitJobResult"] == {"JobId"}
    assert needed["DescribeJobResult"] == {"JobId", "JobState"}
    assert needed["DescribeJobsResult"] == {"JobSet"}
    assert needed["CreateComputeEnvResult"] == needed["DescribeComputeEnvResult"] == {"EnvId"}
    assert needed["CreateTaskTemplateResult"] == {"TaskTemplateId"}
    assert SubmitJobResult.parse_response({"JobId": "job-1", "RequestId": "r"}).request_id == "r"


def test_a_list_that_is_null_is_empty() -> None:
    assert DescribeJobsResult.parse_response({"JobSet": None, "TotalCount": 0}).job_set == []


def test_counts_that_are_null_or_missing_are_zero() -> None:
    metrics = InstanceMetrics.parse_response({"FailedCount": 2, "FailedInterruptedCount": 1, "RunningCount": None})
    assert (metrics.failed, metrics.total, metrics.running_count) == (3, 3, 0)
    assert ComputeNodeMetrics.parse_response({"RunningCount": 2, "CreatedCount": 1}).total == 3


def test_a_state_of_the_future() -> None:
    answer = DescribeJobResult.parse_response({"JobId": "job-1", "JobState": "HIBERNATING"})
    assert answer.job_state == "HIBERNATING"
    assert DescribeJobResult.parse_response({"JobId": "job-1", "JobState": "SUCCEEDED"}).job_state is State.SUCCEED
    nodes = [{"ComputeNodeId": "a", "ComputeNodeState": state} for state in ("RUNNING", "MELTED")]
    found = DescribeComputeEnvResult.parse_response({"EnvId": "env-1", "ComputeNodeSet": nodes})
    assert [node.compute_node_state for node in found.compute_node_set or ()] == [ComputeNodeState.RUNNING, "MELTED"]


def test_gaps_in_a_measured_series() -> None:
    answer = DescribeJobMonitorDataResult.parse_response(
        {"Period": 10, "DataPoints": {"Timestamps": [1, 2], "Values": [0.5, None]}}
    )
    assert answer.data_points is not None
    assert answer.data_points.values == [0.5, None]


class TestEcho:
    """What was submitted under other rules can still be read."""

    ODD = {  # noqa: RUF012
        "Application": {"DeliveryForm": "SOMEHOW", "Command": "a", "Docker": {"Password": "hush", "Image": None}},
        "TaskName": None,
        "EnvId": "env-1",
        "ComputeEnv": {"EnvType": "MANAGED", "NewMember": 1},
        "RedirectInfo": {"StdoutRedirectPath": "somewhere"},
        "FailedAction": "INTERRUPT",
        "Tags": "no member of a task",
        "EnvVars": [{"Name": "A"}, None],
        "MaxRetryCount": "many",
    }

    def test_a_task_that_would_be_refused_today(self) -> None:
        answer = DescribeJobSubmitInfoResult.parse_response({"JobId": "job-1", "Tasks": [self.ODD]})
        task = (answer.tasks or [])[0]
        assert isinstance(task, Task)
        assert task.application.delivery_form == "SOMEHOW"
        assert task.application.docker is not None
        assert task.application.docker.password == SecretStr("hush")
        assert task.application.docker.image is None
        assert task.failed_action is FailedAction.INTERRUPT
        assert task.compute_env is not None
        assert task.compute_env.env_type == "MANAGED"
        assert task.redirect_info is not None
        assert task.redirect_info.stdout_redirect_path == "somewhere"
        assert [variable and variable.name for variable in task.env_vars or ()] == ["A", None]
        assert task.max_retry_count == "many"

    def test_it_prints_without_secrets_and_without_complaints(self) -> None:
        answer = DescribeJobSubmitInfoResult.parse_response({"JobId": "job-1", "Tasks": [self.ODD]})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "hush" not in str(answer)
            assert '"Password": "***"' in str(answer)

    def test_a_valid_one_is_validated(self) -> None:
        good = {"Application": {"DeliveryForm": "LOCAL", "Command": "a"}, "EnvId": "env-1", "Timeout": "60"}
        answer = DescribeJobSubmitInfoResult.parse_response({"JobId": "job-1", "Tasks": [good]})
        assert Job(tasks=answer.tasks).to_wire() == {"Tasks": [{**good, "Timeout": 60}]}

    def test_something_that_is_no_object(self) -> None:
        with pytest.raises(ValidationError):
            DescribeJobSubmitInfoResult.parse_response({"JobId": "job-1", "Tasks": ["text"]})

    @settings(max_examples=30, deadline=None)
    @given(data=st.data())
    def test_any_damage_below_an_environment(self, data: st.DataObject) -> None:
        answer = data.draw(wire(DescribeComputeEnvCreateInfoResult))
        damage: st.SearchStrategy[Any] = st.sampled_from([None, 5, "x", [], True])
        deep = [path for path in places(answer) if any(isinstance(part, str) for part in path[1:])]
        wrong = st.dictionaries(st.sampled_from(deep), damage, max_size=5) if deep else st.just({})
        for path, value in data.draw(wrong).items():
            put(answer, path, value)
        str(DescribeComputeEnvCreateInfoResult.parse_response(answer))
