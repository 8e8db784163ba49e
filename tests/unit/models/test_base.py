"""What all API objects have in common: spelling, sending, printing, error texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.base import HIDDEN, ApiModel, model_type
from airflow_provider_tcbatch.models.compute_env import EnvData, Placement
from airflow_provider_tcbatch.models.job import Application, Authentication, Docker, FailedAction, Job, Tag, Task
from airflow_provider_tcbatch.models.named_env import NamedComputeEnv
from airflow_provider_tcbatch.models.states import State
from tests.unit.models.catalogue import ACTIONS
from tests.unit.models.strategies import SECRET, Wire, wire

TASK = {"Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "EnvId": "env-12345678"}


def job(**more: Any) -> Wire:
    return {"Tasks": [{**TASK, "TaskName": "a"}, {**TASK, "TaskName": "b"}], **more}


def refusal(data: Any, model: type[ApiModel] = Job, at: str = "Job") -> str:
    with pytest.raises(InvalidRequest) as caught:
        model.parse(data, at=at)
    return str(caught.value)


def pythonic(model: type[BaseModel] | None, data: Any) -> Any:
    """The same object as Python spells it."""
    if isinstance(data, list):
        return [pythonic(model, item) for item in data]
    if not isinstance(data, dict) or model is None:
        return data
    fields = {info.alias or name: (name, info) for name, info in model.model_fields.items()}
    return {fields[key][0]: pythonic(model_type(fields[key][1].annotation), item) for key, item in data.items()}


def hidden(data: Any) -> Any:
    """The same object with its secrets out."""
    if isinstance(data, dict):
        return {key: hidden(item) for key, item in data.items()}
    if isinstance(data, list):
        return [hidden(item) for item in data]
    return HIDDEN if isinstance(data, str) and data.startswith(SECRET) else data


@pytest.mark.parametrize("model", ACTIONS, ids=lambda model: model.__name__)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_every_request_survives_in_both_spellings(model: type[ApiModel], data: st.DataObject) -> None:
    given_wire = data.draw(wire(model))
    parsed = model.parse(given_wire)
    assert parsed.to_wire() == given_wire
    assert model.parse(pythonic(model, given_wire)) == parsed
    assert json.loads(str(parsed)) == hidden(given_wire)
    assert SECRET not in repr(parsed)


def test_what_is_unset_or_none_is_not_sent() -> None:
    assert Placement(zone="ap-guangzhou-3", project_id=None).to_wire() == {"Zone": "ap-guangzhou-3"}


def test_numbers_and_texts_are_not_mixed_up() -> None:
    assert Job.parse(job(Priority="1")).to_wire()["Priority"] == 1
    assert "must be a string (put quotes around it)" in refusal(job(JobName=5))


def test_enums_are_sent_as_plain_strings() -> None:
    task = Task.parse({**TASK, "FailedAction": "INTERRUPT"})
    assert task.failed_action is FailedAction.INTERRUPT
    assert type(task.to_wire()["FailedAction"]) is str


def test_a_name_that_rules_can_not_derive() -> None:
    options = EnvData.parse({"instance_type_options": {"cpu": 2, "memory": 4}})
    assert options.to_wire() == {"InstanceTypeOptions": {"CPU": 2, "Memory": 4}}


class TestPrinting:
    def test_secrets_are_hidden(self) -> None:
        docker = Docker(image="python:3.12", user="me", password=SecretStr("hush"))
        assert str(docker) == '{"Image": "python:3.12", "User": "me", "Password": "***"}'
        assert f"{docker}" == str(docker)
        assert "hush" not in repr(docker)

    def test_references_to_secrets_are_shown(self) -> None:
        assert json.loads(str(Docker.parse({"Image": "i", "Password": "{{ conn.hub.password }}"}))) == {
            "Image": "i",
            "Password": "{{ conn.hub.password }}",
        }

    def test_text_stays_readable(self) -> None:
        assert str(Tag(key="地域", value="广州")) == '{"Key": "地域", "Value": "广州"}'


class TestErrors:
    def test_unknown_field_with_a_suggestion(self) -> None:
        assert "Job.Tasks[0].TaskNme: unknown field; did you mean TaskName?" in refusal(
            {"Tasks": [{**TASK, "TaskNme": "a"}]}
        )

    def test_suggestion_in_the_spelling_that_was_used(self) -> None:
        assert "Job.job_nam: unknown field; did you mean job_name?" in refusal(job(job_nam="x"))

    def test_unknown_field_without_anything_like_it(self) -> None:
        assert "Colour: unknown field; known fields: Key, Value" in refusal(
            job(Tags=[{"Key": "a", "Value": "b", "Colour": "c"}])
        )

    def test_unknown_field_of_an_object_without_fields(self) -> None:
        class Empty(ApiModel):
            pass

        assert "X: unknown field; this object has no fields" in refusal({"X": 1}, Empty)

    def test_suggestion_inside_a_list_of_optional_objects(self) -> None:
        wrong = {**TASK, "InputMappings": [{"SourcePth": "x"}]}
        text = refusal({"Tasks": [wrong]})
        assert "Job.Tasks[0].InputMappings[0].SourcePth: unknown field; did you mean SourcePath?" in text

    def test_every_problem_is_named(self) -> None:
        with pytest.raises(InvalidRequest) as caught:
            Job.parse({"Tasks": [{}], "Priority": 101, "Nme": 1}, at="Job")
        assert len(caught.value.problems) == 3
        assert "Job, 3 problems:" in str(caught.value)
        assert "Job.Tasks[0].Application: this field is required" in caught.value.problems

    def test_environment_is_one_of_two(self) -> None:
        both = {**TASK, "ComputeEnv": {}}
        neither = {"Application": TASK["Application"]}
        assert "Job.Tasks[0]: exactly one of EnvId and ComputeEnv is required, both are given" in refusal(
            {"Tasks": [both]}
        )
        assert "neither is given" in refusal({"Tasks": [neither]})

    def test_cycle(self) -> None:
        edges = [{"StartTask": "a", "EndTask": "b"}, {"StartTask": "b", "EndTask": "a"}]
        assert "Job: Dependences form a cycle: " in refusal(job(Dependences=edges))
        assert "a → b → a" in refusal(job(Dependences=edges)) or "b → a → b" in refusal(job(Dependences=edges))

    def test_a_task_that_waits_for_itself(self) -> None:
        assert "cycle" in refusal(job(Dependences=[{"StartTask": "a", "EndTask": "a"}]))

    def test_unknown_task(self) -> None:
        edges = [{"StartTask": "a", "EndTask": "c"}]
        assert "Dependences[0].EndTask names task 'c', which the job does not have (tasks: a, b)" in refusal(
            job(Dependences=edges)
        )

    def test_task_names_are_unique(self) -> None:
        same = {**TASK, "TaskName": "a"}
        assert "TaskName must be unique in a job; used more than once: a" in refusal({"Tasks": [same, same]})

    def test_too_long_a_name(self) -> None:
        assert "Job.JobName: string should have at most 60 characters" in refusal(job(JobName="x" * 61))
        assert Job.parse(job(JobName="字" * 60)).job_name == "字" * 60

    def test_no_tasks(self) -> None:
        assert "Job.Tasks: list should have at least 1 item" in refusal({"Tasks": []})

    def test_wrong_value_of_an_enum_names_the_right_ones(self) -> None:
        text = refusal({"Tasks": [{**TASK, "FailedAction": "KILL"}]})
        assert "Job.Tasks[0].FailedAction: must be one of 'TERMINATE', 'INTERRUPT' or 'FAST_INTERRUPT'" in text

    def test_two_kinds_of_command(self) -> None:
        application = {"DeliveryForm": "LOCAL", "Command": "a", "Commands": [{"Command": "b"}]}
        assert "Command and Commands exclude one another" in refusal(application, Application, "Application")

    def test_a_package_needs_a_path(self) -> None:
        assert "PACKAGE needs a PackagePath" in refusal(
            {"DeliveryForm": "PACKAGE", "Command": "true"}, Application, "Application"
        )

    def test_machines_are_chosen_in_one_way(self) -> None:
        text = refusal({"InstanceType": "S5.SMALL1", "InstanceTypes": ["S5.SMALL1"]}, EnvData, "EnvData")
        assert "EnvData: InstanceType and InstanceTypes exclude one another; keep one of them" in text
        assert "Zones exclude" in refusal(
            {"Zones": ["ap-guangzhou-3"], "VirtualPrivateCloud": {"VpcId": "v", "SubnetId": "s"}}, EnvData, "EnvData"
        )
        assert "InstanceTypes: names S5.SMALL1 more than once" in refusal(
            {"InstanceTypes": ["S5.SMALL1", "S5.SMALL1"]}, EnvData, "EnvData"
        )

    def test_secrets_are_not_quoted(self) -> None:
        wrong = {"Scene": "COS", "SecretId": 5, "SecretKey": "hush", "Token": "hush"}
        assert "hush" not in refusal(wrong, Authentication, "Authentication")

    def test_nodes_of_an_environment(self) -> None:
        text = refusal({"EnvName": "e", "DesiredComputeNodeCount": 2001}, NamedComputeEnv, "ComputeEnv")
        assert "ComputeEnv.DesiredComputeNodeCount: input should be less than or equal to 2000" in text

    def test_something_that_is_no_object(self) -> None:
        assert "Invalid Job" in refusal("text")
        assert "Invalid Placement" in refusal([], Placement, "")


def test_states() -> None:
    assert State("SUCCEEDED") is State.SUCCEED
    assert {state for state in State if state.is_terminal} == {State.SUCCEED, State.FAILED, State.FAILED_INTERRUPTED}
    assert {state for state in State if state.is_waiting} == {State.SUBMITTED, State.PENDING, State.RUNNABLE}
    assert [state for state in State if state.is_success] == [State.SUCCEED]
    assert str(State.FAILED) == f"{State.FAILED}" == "FAILED"
