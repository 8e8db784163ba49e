"""Jobs as people write them: native rendering, comments, whole requests, flags as text, a shell's braces."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest
from airflow_provider_tcbatch.get_provider_info import get_provider_info
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.operators.compute_env import TCBatchCreateComputeEnvOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.task_template import TCBatchCreateTaskTemplateOperator
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from tests.unit.conftest import job


def native(body: Any, **context: Any) -> Job:
    """The job that a DAG with native rendering sends."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        operator = TCBatchSubmitJobOperator(task_id="submit", job=body)
    operator.render_template_fields(context, operator.dag.get_template_env())  # type: ignore[arg-type]
    return operator.final_job()


# -- native rendering -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["20240131", "007", "1e3", "1_000", "0x10", "1.50", "True", "None", "[1, 2]", "{'a': 1}", "'quoted'", " x "],
)
def test_text_is_text_whatever_it_looks_like(value: str) -> None:
    body = job("{{ value }}", EnvVars=[{"Name": "DAY", "Value": "{{ value }}"}])
    body |= {
        "JobName": "{{ value }}",
        "JobDescription": "on {{ value }}",
        "Tags": [{"Key": "k", "Value": "{{ value }}"}],
    }
    made = native(body, value=value).to_wire()
    [made_task] = made["Tasks"]
    assert made_task["EnvVars"] == [{"Name": "DAY", "Value": value}]
    assert made_task["Application"]["Command"] == value
    assert (made["JobName"], made["JobDescription"], made["Tags"][0]["Value"]) == (value, f"on {value}", value)


def test_numbers_and_lists_are_numbers_and_lists() -> None:
    body = job("true", TaskInstanceNum="{{ n }}", Timeout="{{ n * 60 }}", RestartComputeNode="{{ n > 3 }}")
    body["Tasks"][0]["ComputeEnv"] = {"EnvData": {"InstanceTypes": "{{ types }}", "SecurityGroupIds": ["{{ group }}"]}}
    [made] = native(body, n=40, types=["S5.MEDIUM4", "S6.MEDIUM4"], group="sg-1").to_wire()["Tasks"]
    assert (made["TaskInstanceNum"], made["Timeout"], made["RestartComputeNode"]) == (40, 2400, True)
    data = made["ComputeEnv"]["EnvData"]
    assert (data["InstanceTypes"], data["SecurityGroupIds"]) == (["S5.MEDIUM4", "S6.MEDIUM4"], ["sg-1"])


def test_what_jinja_makes_of_a_whole_list_or_job_is_text_where_text_is_wanted() -> None:
    variables = [{"Name": "N", "Value": 5}, {"Name": "F", "Value": False}, {"Name": "R", "Value": 0.5}]
    [made] = native(job("true", EnvVars="{{ variables }}"), variables=variables).to_wire()["Tasks"]
    assert [entry["Value"] for entry in made["EnvVars"]] == ["5", "False", "0.5"]
    whole = native("{{ whole }}", whole={**job("true"), "JobName": 20240131}).to_wire()
    assert whole["JobName"] == "20240131"


def test_the_number_that_another_task_returned_is_text_where_text_is_wanted() -> None:
    with DAG("d", schedule=None):

        @task
        def day() -> int:
            return 20240131

        operator = TCBatchSubmitJobOperator(
            task_id="submit", job=job("true", EnvVars=[{"Name": "DAY", "Value": day()}])
        )
    ti = type("TI", (), {"xcom_pull": lambda self, **options: 20240131})()
    operator.render_template_fields({"ti": ti}, operator.dag.get_template_env())
    assert operator.final_job().to_wire()["Tasks"][0]["EnvVars"] == [{"Name": "DAY", "Value": "20240131"}]


def test_a_number_that_the_author_wrote_in_the_place_of_text_is_still_named() -> None:
    with pytest.raises(InvalidRequest, match=r"EnvVars\[0\]\.Value: must be a string \(put quotes around it\)"):
        native(job("true", EnvVars=[{"Name": "DAY", "Value": 20240131}]))


# -- JSON as Tencent prints it --------------------------------------------------------------------------

COMMENTED = """{
\t"JobName": "sample",  // shown in the console
\t"Tasks": [
\t\t{
\t\t\t"TaskName": "one",  // "quoted" remark
\t\t\t"Application": {"DeliveryForm": "LOCAL", "Command": "curl http://host/a//b \\"x\\""},
\t\t\t"EnvId": "env-12345678",
\t\t},
\t],
}"""


@pytest.mark.parametrize("text", [COMMENTED, COMMENTED.replace("\t", "  "), re.sub("  // .*", "", COMMENTED)])
def test_json_with_comments_tabs_and_a_last_comma_is_read(text: str) -> None:
    made = native(text).to_wire()
    assert made["Tasks"][0]["Application"]["Command"] == 'curl http://host/a//b "x"'


def test_what_is_wrong_with_json_is_told_with_its_line() -> None:
    text = '{\n  "JobName": "x"\n  "Tasks": []\n}'
    with pytest.raises(InvalidRequest, match=r"line 3, column 3: .*comma.*missing"):
        TCBatchSubmitJobOperator(task_id="submit", job=text)


# -- a whole request ------------------------------------------------------------------------------------

REQUEST = {"Placement": {"Zone": "ap-guangzhou-3"}, "Job": job("true"), "ClientToken": ""}


@pytest.mark.parametrize(
    "form", [REQUEST, json.dumps(REQUEST), {"placement": REQUEST["Placement"], "job": job("true")}]
)
def test_a_whole_submit_request_is_taken(form: Any) -> None:
    operator = TCBatchSubmitJobOperator(task_id="submit", job=form)
    assert operator.final_job() == Job.parse(job("true"))
    assert operator.placement == {"Zone": "ap-guangzhou-3"}


def test_a_whole_request_may_come_at_run_time() -> None:
    with DAG("d", schedule=None):
        operator = TCBatchSubmitJobOperator(task_id="submit", job="{{ request }}")
    operator.render_template_fields({"request": json.dumps(REQUEST)}, operator.get_template_env())  # type: ignore[typeddict-unknown-key]
    assert operator.final_job() == Job.parse(job("true"))
    assert operator.placement == {"Zone": "ap-guangzhou-3"}


@pytest.mark.parametrize(
    ("part", "options", "words"),
    [
        ({"ClientToken": "mine"}, {}, r"ClientToken has no place here: leave it out"),
        ({"Region": "ap-beijing"}, {}, r"Region has no place here: write it as the argument region"),
        ({}, {"placement": {"Zone": "ap-guangzhou-4"}}, r"Placement differs from the argument placement"),
    ],
)
def test_a_part_that_has_no_place_is_named_with_the_remedy(part: Any, options: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        TCBatchSubmitJobOperator(task_id="submit", job={**REQUEST, **part}, **options)


def test_other_requests_are_taken_whole_too() -> None:
    env = {"EnvName": "e", "DesiredComputeNodeCount": 1, "EnvData": {"InstanceType": "S5.MEDIUM4"}}
    created = TCBatchCreateComputeEnvOperator(
        task_id="env", compute_env={"ComputeEnv": env, "Placement": {"Zone": "ap-guangzhou-3"}}
    )
    assert created.final_env().env_name == "e"
    assert created.placement == {"Zone": "ap-guangzhou-3"}
    [content] = job("true")["Tasks"]
    request = {"TaskTemplateName": "t", "TaskTemplateInfo": content, "TaskTemplateDescription": "nightly"}
    template = TCBatchCreateTaskTemplateOperator(task_id="template", name="t", task=request)
    assert template.task == content
    assert template.description == "nightly"
    with pytest.raises(InvalidRequest, match="TaskTemplateName differs from the argument name"):
        TCBatchCreateTaskTemplateOperator(task_id="template", name="other", task=request)


# -- flags ----------------------------------------------------------------------------------------------


def flags() -> list[Any]:
    """Every argument of every public operator and sensor that is a flag."""
    info = get_provider_info()
    found = []
    for kind in ("operators", "sensors"):
        for path in info[kind][0]["python-modules"]:
            module = importlib.import_module(path)
            for name in module.__all__:
                thing = getattr(module, name)
                if not inspect.isclass(thing) or not hasattr(thing, "execute"):
                    continue
                own: list[Any] = [
                    base for base in thing.__mro__ if base.__module__.startswith("airflow_provider_tcbatch.")
                ]
                arguments = {
                    argument
                    for base in own
                    for argument, parameter in inspect.signature(base.__init__).parameters.items()
                    if parameter.annotation in ("bool", "bool | None", bool)
                }
                found += [pytest.param(thing, argument, id=f"{name}-{argument}") for argument in sorted(arguments)]
    return found


GOOD: dict[str, Any] = {
    "job": job("true"),
    "job_id": "job-12345678",
    "job_ids": "job-12345678",
    "env_id": "env-12345678",
    "env_ids": "env-12345678",
    "compute_env": {"EnvName": "e", "DesiredComputeNodeCount": 1, "EnvData": {"InstanceType": "S5.MEDIUM4"}},
    "count": 1,
    "name": "t",
    "task": job("true")["Tasks"][0],
    "task_name": "main",
    "indexes": "all",
    "event_names": "JOB_SUCCEED",
    "instance_ids": "ins-12345678",
    "node_ids": "node-12345678",
    "compute_node_ids": "node-12345678",
    "setup_task_id": "a",
    "teardown_task_id": "b",
    "instances": "ins-12345678",
}


ONE_OF = {
    "env_id": ("TCBatchDeleteComputeEnvOperator",),
    "job_ids": ("TCBatchJobSensor",),
    "task_template_id": ("TCBatchModifyTaskTemplateOperator",),
}


def good_arguments(operator: type) -> dict[str, Any]:
    needed = {
        name
        for base in operator.__mro__
        if base.__module__.startswith("airflow_provider_tcbatch.")
        for name, parameter in inspect.signature(base.__init__).parameters.items()  # type: ignore[misc]
        if parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
    }
    # Of some arguments one has to be there, though each has a default.
    for name in ("env_id", "job_ids", "task_template_id"):
        if operator.__name__ in ONE_OF[name]:
            needed.add(name)
    return {name: GOOD[name] for name in needed}


@pytest.mark.parametrize(("operator", "argument"), flags())
@pytest.mark.parametrize("text", ["false", "true", 1])
def test_a_flag_as_text_is_refused(operator: type, argument: str, text: Any) -> None:
    with DAG("d", schedule=None), pytest.raises(InvalidRequest, match=rf"{argument} is {text!r}; write True or False"):
        operator(task_id="t", **{**good_arguments(operator), argument: text})


def test_flags_of_default_args_are_looked_at_too() -> None:
    with DAG("d", schedule=None, default_args={"deferrable": "no"}), pytest.raises(InvalidRequest, match="deferrable"):
        TCBatchSubmitJobOperator(task_id="t", job=job("true"))


# -- Jinja that is none ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["for i in ${!names[@]}; do echo ${#names[@]}; done", "echo {{ ds", "docker ps --format '{{.Id'"]
)
def test_what_is_no_jinja_is_found_at_parse_with_its_path(command: str) -> None:
    with pytest.raises(InvalidRequest, match=r"Job\.Tasks\[0\]\.Application\.Command: not valid Jinja.*\{% raw %\}"):
        TCBatchSubmitJobOperator(task_id="t", job=job(command))


def test_jinja_that_is_wrong_inside_is_named_when_it_is_rendered() -> None:
    operator = TCBatchSubmitJobOperator(task_id="t", job=job("echo {{ ds | }}"))
    with pytest.raises(PermanentInvalidRequest, match=r"Application\.Command: not valid Jinja, line 1"):
        operator.render_template_fields({})


def test_a_run_without_a_logical_date_says_so() -> None:
    with DAG("d", schedule=None):
        operator = TCBatchSubmitJobOperator(task_id="t", job=job("echo {{ ds }}"))
    with pytest.raises(InvalidRequest, match=r"Application\.Command: 'ds' is undefined.*no logical date.*run_after"):
        operator.render_template_fields({}, operator.dag.get_template_env())


def test_text_between_raw_tags_and_json_in_a_command_are_left_alone() -> None:
    command = '{% raw %}echo ${#names[@]}{% endraw %} \'{"a": {"b": {"c": 1}}}\''
    operator = TCBatchSubmitJobOperator(task_id="t", job=job(command))
    operator.render_template_fields({})
    assert operator.final_job().tasks[0].application.command == 'echo ${#names[@]} \'{"a": {"b": {"c": 1}}}\''


# -- where an error comes from --------------------------------------------------------------------------


def test_an_error_at_parse_begins_with_task_file_and_line() -> None:
    line = inspect.currentframe().f_lineno + 2  # type: ignore[union-attr]
    with pytest.raises(InvalidRequest) as caught:
        TCBatchSubmitJobOperator(task_id="transform", job={"Tasks": []})
    file = re.escape(Path(__file__).name)
    assert re.match(rf"Task 'transform' \({file}:{line}\): Invalid Job: Job\.Tasks", str(caught.value))
    with pytest.raises(InvalidRequest, match=rf"^Task 'x' \({file}:\d+\): timeout is -1"):
        TCBatchSubmitJobOperator(task_id="x", job=job("true"), timeout=-1)
    with pytest.raises(InvalidRequest, match=rf"^Task 's' \({file}:\d+\): deferrable is 'no'"):
        TCBatchJobSensor(task_id="s", job_ids="job-12345678", deferrable="no")


def test_event_names_of_the_user_guide_lead_to_those_of_the_api() -> None:
    body = {
        **job("true"),
        "Notifications": [{"TopicName": "t", "EventConfigs": [{"EventName": "JobSucceed", "EventVars": []}]}],
    }
    with pytest.raises(InvalidRequest, match=r"EventName: must be one of .*; did you mean JOB_SUCCEED\?"):
        TCBatchSubmitJobOperator(task_id="t", job=body)


def test_event_configs_as_the_user_guide_writes_them() -> None:
    text = """{
        "JobName": "told",
        "Tasks": [{"Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "EnvId": "env-12345678"}],
        "notifications": [
            {
                "event_configs": [
                    {"event_name": "TaskInstanceFailedInterrupted"}, // names of events
                    {"event_name": "JobFailed", "event_vars": [{"name": "colour", "value": "red"}]},
                ],
                "topic_name": "airflow-batch" // name of the topic
            }
        ]
    }"""
    with pytest.raises(InvalidRequest) as caught:
        TCBatchSubmitJobOperator(task_id="submit", job=text)
    first, second = caught.value.problems
    at = "Job.Notifications[0].EventConfigs"
    assert first.startswith(f"{at}[0].EventName: must be one of 'JOB_RUNNING', ")
    assert first.endswith("did you mean TASK_INSTANCE_FAILED_INTERRUPTED?")
    assert second.startswith(f"{at}[1].EventName: ")
    assert second.endswith("did you mean JOB_FAILED?")

    text = text.replace("TaskInstanceFailedInterrupted", "TASK_INSTANCE_FAILED_INTERRUPTED")
    operator = TCBatchSubmitJobOperator(task_id="submit", job=text.replace("JobFailed", "JOB_FAILED"))
    [notification] = operator.final_job().to_wire()["Notifications"]
    assert notification["TopicName"] == "airflow-batch"
    [_, second] = notification["EventConfigs"]
    assert second == {"EventName": "JOB_FAILED", "EventVars": [{"Name": "colour", "Value": "red"}]}
