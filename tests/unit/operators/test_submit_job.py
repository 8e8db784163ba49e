from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.compute_env import AnonymousComputeEnv, EnvData, LoginSettings
from airflow_provider_tcbatch.models.job import Application, Dependence, Docker, EnvVar, FailedAction, Job, Task
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from tests.unit.conftest import job


def submit(body: Any, **options: Any) -> TCBatchSubmitJobOperator:
    return TCBatchSubmitJobOperator(task_id="submit", job=body, **options)


def rendered(operator: TCBatchSubmitJobOperator, **context: Any) -> TCBatchSubmitJobOperator:
    operator.render_template_fields(context)  # type: ignore[arg-type]
    return operator


def change(path: str, value: Any) -> dict[str, Any]:
    """A good job with one thing changed."""
    body = job("true")
    *parents, last = path.split(".")
    node: Any = body
    for name in parents:
        node = node[int(name) if name.isdigit() else name]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return body


TWICE = [job("true")["Tasks"][0], job("true")["Tasks"][0]]
LOOP = {
    **job("true"),
    "Tasks": [{**job("true")["Tasks"][0], "TaskName": name} for name in "ab"],
    "Dependences": [{"StartTask": "a", "EndTask": "b"}, {"StartTask": "b", "EndTask": "a"}],
}
BUCKET = "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com"


@pytest.mark.parametrize(
    ("body", "path", "rule"),
    [
        (change("Tasks.0.Comand", "x"), "Job.Tasks[0].Comand", "unknown field"),
        (change("Tasks.0.Application.Comand", "x"), "Job.Tasks[0].Application.Comand", "did you mean Command?"),
        (change("Tasks.0.Application", ...), "Job.Tasks[0].Application", "required"),
        (change("Tasks.0.ComputeEnv", ...), "Job.Tasks[0]", "neither is given"),
        (change("Tasks.0.EnvId", "env-12345678"), "Job.Tasks[0]", "both are given"),
        (change("JobName", "x" * 61), "Job.JobName", "at most 60"),
        (change("Tasks.0.Application.DeliveryForm", "LOCA"), "Application.DeliveryForm", "'LOCAL' or 'PACKAGE'"),
        (change("Tasks.0.RedirectInfo", {"StdoutRedirectPath": f"{BUCKET}/x"}), "StdoutRedirectPath", "slash"),
        (change("Tasks.0.RedirectInfo", {"StdoutRedirectPath": "cos://b/x/"}), "StdoutRedirectPath", "XML-API"),
        (change("Tasks.0.RedirectInfo", {"StdoutRedirectPath": "/tmp/"}), "StdoutRedirectPath", "cos://"),
        (change("Tasks", TWICE), "Job", "unique"),
        (LOOP, "Job", "cycle"),
        (change("Priority", 101), "Job.Priority", "100"),
    ],
)
def test_a_wrong_job_is_refused_at_parse_with_path_and_rule(body: Any, path: str, rule: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        submit(body)
    assert path in str(caught.value)
    assert rule in str(caught.value)
    for form in (json.dumps(body), json.dumps(body, indent=1).replace("{", " {", 1)):
        with pytest.raises(InvalidRequest):
            submit(form)


def test_the_rules_between_fields_hold_with_jinja_anywhere() -> None:
    body = change("Tasks.0.EnvId", "{{ var.value.env }}")
    body["JobName"] = "{{ ds }}"
    body["Tasks"][0]["TaskInstanceNum"] = "{{ params.n }}"
    with pytest.raises(InvalidRequest, match="both are given"):
        submit(body)
    del body["Tasks"][0]["ComputeEnv"]
    submit(body)


def test_an_old_host_is_accepted_with_a_warning() -> None:
    body = change("Tasks.0.RedirectInfo", {"StdoutRedirectPath": "cos://b-1250000000.cosgz.myqcloud.com/logs/"})
    with pytest.warns(UserWarning, match="b-1250000000.cos.ap-guangzhou.myqcloud.com"):
        submit(body)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{not json", "neither valid JSON nor valid YAML"), ("just words", "must be a mapping"), ("[1, 2]", "mapping")],
)
def test_text_that_is_no_job_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        submit(text)


def test_an_unknown_choice_of_logs_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="failed, all or none"):
        submit(job("true"), logs="some")


@pytest.mark.parametrize("wrong", [0, -1, "30", float("nan"), float("inf"), True, timedelta(0)])
@pytest.mark.parametrize("argument", ["timeout", "poll_interval"])
def test_a_wrong_time_is_refused_at_parse(argument: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match=argument):
        submit(job("true"), **{argument: wrong})


def test_times_may_be_timedeltas() -> None:
    operator = submit(job("true"), timeout=timedelta(hours=1), poll_interval=timedelta(seconds=5))
    assert (operator.timeout, operator.poll_interval) == (3600.0, 5.0)


# -- what is stored, rendered and sent ------------------------------------------------------------------

FULL = Job(
    job_name="full",
    priority=3,
    tasks=[
        Task(
            task_name="one",
            task_instance_num=4,
            application=Application(
                delivery_form="LOCAL", command="echo a", docker=Docker(image="i", password="docker-secret")
            ),
            compute_env=AnonymousComputeEnv(
                env_data=EnvData(instance_types=["S1", "S2"], login_settings=LoginSettings(password="login-secret"))
            ),
            env_vars=[EnvVar(name="A", value="{{ ds }}")],
            failed_action=FailedAction.INTERRUPT,
        ),
        Task(task_name="two", env_id="env-12345678", application=Application(delivery_form="LOCAL", command="b")),
    ],
    dependences=[Dependence(start_task="one", end_task="two")],
)


def stored(operator: TCBatchSubmitJobOperator) -> dict[str, Any]:
    """The operator as it stands in Airflow's database."""
    dag = operator.dag
    data = DagSerialization.to_dict(dag)
    [one] = [t["__var"] for t in data["dag"]["tasks"] if t["__var"]["task_id"] == operator.task_id]
    return dict(one)


def test_a_model_survives_operator_storage_and_rendering() -> None:
    with DAG("d", schedule=None):
        operator = submit(FULL)
    as_stored = json.dumps(stored(operator))
    assert "docker-secret" not in as_stored
    assert "login-secret" not in as_stored
    sent = rendered(operator, ds="2026-01-31").final_job()
    wire = FULL.to_wire()
    wire["Tasks"][0]["EnvVars"][0]["Value"] = "2026-01-31"
    assert sent == Job.parse(wire)
    assert sent.to_wire()["Tasks"][0]["FailedAction"] == "INTERRUPT"
    assert "secret" not in json.dumps(operator.job), "the rendered field is shown in the UI"


def test_what_is_stored_validates_and_equals_what_was_given() -> None:
    with DAG("d", schedule=None):
        operator = submit(job("true"))
    # The operator's fields are members of what is restored, whatever its class.
    restored: Any = DagSerialization.from_dict(DagSerialization.to_dict(operator.dag)).get_task("submit")
    assert Job.parse(restored.job) == Job.parse(job("true"))


@pytest.mark.parametrize("spelling", ["dict", "snake", "json", "yaml"])
def test_all_spellings_mean_the_same(spelling: str) -> None:
    wire = job("echo {{ ds }}", instances=2)
    forms: dict[str, Any] = {
        "dict": wire,
        "snake": {
            "job_name": "test",
            "tasks": [
                {
                    "task_name": "main",
                    "task_instance_num": 2,
                    "application": {"delivery_form": "LOCAL", "command": "echo {{ ds }}"},
                    "compute_env": {"env_data": {"instance_type": "S1.SMALL1"}},
                }
            ],
        },
        "json": json.dumps(wire),
        "yaml": (
            "JobName: test\nTasks:\n- TaskName: main\n  TaskInstanceNum: {{ 1 + 1 }}\n"
            "  Application: {DeliveryForm: LOCAL, Command: 'echo {{ ds }}'}\n"
            "  ComputeEnv: {EnvData: {InstanceType: S1.SMALL1}}\n"
        ),
    }
    sent = rendered(submit(forms[spelling]), ds="today").final_job()
    assert sent == Job.parse(job("echo today", instances=2))


def test_rendering_a_wrong_value_is_refused_before_sending() -> None:
    operator = rendered(submit(change("Tasks.0.TaskInstanceNum", "{{ n }}")), n="many")
    with pytest.raises(InvalidRequest, match=r"Job\.Tasks\[0\]\.TaskInstanceNum"):
        operator.final_job()


def test_a_template_file_is_found_beside_the_dag_and_rendered(tmp_path: Path) -> None:
    (tmp_path / "etl.yaml").write_text(
        "JobName: etl-{{ ds }}\nTasks:\n{% for name in ['a', 'b'] %}\n- TaskName: {{ name }}\n  EnvId: env-12345678\n"
        "  Application: {DeliveryForm: LOCAL, Command: run {{ name }}}\n{% endfor %}\n"
    )
    with DAG("d", schedule=None, template_searchpath=[str(tmp_path)]):
        operator = submit("etl.yaml")
    assert stored(operator)["job"] == "etl.yaml", "what a file holds is not stored with the DAG"
    operator.render_template_fields({"ds": "today"}, operator.dag.get_template_env())
    sent = operator.final_job()
    assert [(t.task_name, t.application.command) for t in sent.tasks] == [("a", "run a"), ("b", "run b")]
    assert sent.job_name == "etl-today"


def test_a_missing_template_file_is_named(tmp_path: Path) -> None:
    with DAG("d", schedule=None, template_searchpath=[str(tmp_path)]):
        operator = submit("nowhere.yaml")
    with pytest.raises(InvalidRequest, match=r"nowhere\.yaml"):
        operator.render_template_fields({}, operator.dag.get_template_env())


def test_a_command_that_ends_like_a_file_name_is_left_alone() -> None:
    operator = rendered(submit(job("python run.py config.yaml")))
    assert operator.final_job().tasks[0].application.command == "python run.py config.yaml"


def test_text_that_ends_like_a_file_name_is_still_text() -> None:
    text = "JobName: x\nTasks:\n- TaskName: a\n  Application:\n    DeliveryForm: LOCAL\n    Command: run config.yaml"
    with pytest.raises(InvalidRequest, match="neither is given"):
        submit(text)


def test_what_another_task_returned_is_not_rendered() -> None:
    """Airflow marks expanded values by identity; braces in them are data."""
    body = job("docker inspect -f '{{.Id}}' {{ 6 * 7 }}")
    operator = submit(body)
    operator._do_render_template_fields(operator, operator.template_fields, {}, operator.get_template_env(), {id(body)})
    assert operator.final_job().tasks[0].application.command == "docker inspect -f '{{.Id}}' {{ 6 * 7 }}"


def test_literal_secrets_are_masked_in_the_log() -> None:
    from airflow.sdk._shared.secrets_masker import redact

    rendered(submit(FULL), ds="today").final_job()
    assert "docker-secret" not in str(redact("login failed for docker-secret"))


@pytest.mark.parametrize("text", [False, True])
def test_secrets_that_rendering_brings_are_sent(text: bool) -> None:
    """The template field holds them already: Airflow masks what comes from a connection."""
    body = change("Tasks.0.Application.Docker", {"Image": "i", "Password": "{{ password }}"})
    body["Tasks"][0]["Authentications"] = [{"Scene": "COS", "SecretId": "id", "SecretKey": "literal"}]
    operator = rendered(submit(json.dumps(body) if text else body), password="from a connection")
    [task] = operator.final_job().to_wire()["Tasks"]
    assert task["Application"]["Docker"]["Password"] == "from a connection"
    assert task["Authentications"][0]["SecretKey"] == "literal"


def test_the_output_of_another_task_may_stand_anywhere_in_a_job() -> None:
    with DAG("d", schedule=None):

        @task
        def count() -> int:
            return 3

        number = count()
        operator = submit(change("Tasks.0.TaskInstanceNum", number))
    assert operator.upstream_task_ids == {"count"}


def test_a_field_that_rendering_emptied_is_named_once(capfd: pytest.CaptureFixture[str]) -> None:
    """It is left out of the job; what the author wrote as None is meant."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):

        @task
        def nothing() -> None: ...

        body = change("Tasks.0.TaskInstanceNum", nothing())
        body["Tasks"][0] |= {"MaxRetryCount": "{{ missing }}", "Timeout": None, "MaxConcurrentNum": "{{ 3 }}"}
        operator = submit(body)
    ti = SimpleNamespace(xcom_pull=lambda **options: None)
    operator.render_template_fields({"ti": ti, "missing": None}, operator.dag.get_template_env())  # type: ignore[typeddict-item]
    for _ in range(2):
        made = operator.final_job().to_wire()["Tasks"][0]
    assert made["MaxConcurrentNum"] == 3
    assert not made.keys() & {"TaskInstanceNum", "MaxRetryCount", "Timeout"}
    named = re.findall(r"(\S+) is None after rendering", capfd.readouterr().out)
    assert named == ["Job.Tasks[0].TaskInstanceNum", "Job.Tasks[0].MaxRetryCount"]


def test_jobs_can_be_mapped() -> None:
    with DAG("d", schedule=None):
        mapped = TCBatchSubmitJobOperator.partial(task_id="submit").expand(job=[job("a"), job("b")])
    DagSerialization.to_dict(mapped.dag)
