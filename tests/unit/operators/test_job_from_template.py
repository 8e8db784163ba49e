"""Jobs whose tasks come from task templates: checked when parsed, put together when they run, submitted once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest
from airflow_provider_tcbatch.execution.job import lookup, submission
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.links import TCBatchLogsLink, TCBatchTaskTemplateLink
from airflow_provider_tcbatch.models.job import Docker, EnvVar
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from tests.support.task_context import Task, TaskDeferred, instance_in
from tests.unit.conftest import job

NAME = "greeting"


def submit(*tasks: Any, **options: Any) -> TCBatchSubmitJobOperator:
    members = {name: options.pop(name) for name in list(options) if name[0].isupper()}
    options = {"poll_interval": 0.2, "deferrable": False, **options}
    return TCBatchSubmitJobOperator(task_id="submit", job={"Tasks": list(tasks), **members}, **options)


def rendered(operator: TCBatchSubmitJobOperator, **context: Any) -> TCBatchSubmitJobOperator:
    operator.render_template_fields(context)  # type: ignore[arg-type]
    return operator


@pytest.fixture
def content(connection: str) -> dict[str, Any]:
    [task] = job('echo "$WORD"; exit 0')["Tasks"]
    return {**task, "EnvVars": [{"Name": "WORD", "Value": "hello"}, {"Name": "OTHER", "Value": "1"}], "Timeout": 600}


@pytest.fixture
def template(content: dict[str, Any]) -> Iterator[str]:
    """Id of a template."""
    hook = TCBatchHook()
    template_id = hook.create_task_template(NAME, content)
    yield template_id
    for views in hook.task_templates_named([NAME]).values():
        hook.delete_task_templates([view.task_template_id for view in views])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all actions that are called."""
    names: list[str] = []
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        names.append(action.name())
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    return names


def submitted(job_id: str) -> dict[str, Any]:
    return TCBatchHook().describe_job_submit_info(job_id).to_wire()


# -- when the DAG is parsed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"TaskTemplateName": "t", "Comand": "x"}, "Job.Tasks[0].Comand: unknown field"),
        ({"TaskTemplateName": "t", "Application": {"Comand": "x"}}, "did you mean Command?"),
        ({"task_template_name": "t", "application": {"comand": "x"}}, "Job.Tasks[0].Application.comand: unknown field"),
        ({"TaskTemplateName": "t", "Timeout": "soon"}, "Job.Tasks[0].Timeout"),
        ({"TaskTemplateName": "t", "FailedAction": "STOP"}, "'TERMINATE'"),
        ({"TaskTemplateName": "t", "RedirectInfo": {"StdoutRedirectPath": "/tmp/"}}, "cos://"),
        ({"TaskTemplateName": "t", "TaskTemplateId": "task-tmpl-1"}, "exclude one another"),
        ({"TaskTemplateId": None}, "is empty"),
        ({"TaskTemplateId": " "}, "Job.Tasks[0].TaskTemplateId: must be a string that is not empty"),
        ({"task_template_id": 7}, "must be a string"),
    ],
)
def test_wrong_overrides_are_refused_at_parse(task: dict[str, Any], words: str) -> None:
    for given in ({"Tasks": [task]}, json.dumps({"tasks": [task]})):
        with pytest.raises(e.InvalidRequest) as caught:
            TCBatchSubmitJobOperator(task_id="submit", job=given)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "task",
    [
        {"TaskTemplateName": "t"},
        {"task_template_id": "{{ var.value.template }}"},
        {"TaskTemplateName": "t", "Application": {"Command": "{{ ds }}"}},
        {"TaskTemplateName": "t", "Application": {"DeliveryForm": "PACKAGE"}},
        {"TaskTemplateName": "t", "Application": {"DeliveryForm": None}, "Timeout": None},
        {"TaskTemplateName": "t", "EnvVars": [{"Name": "A", "Value": None}]},
        {"TaskTemplateName": "t", "env_vars": [EnvVar(name="A", value="1")]},
        {"TaskTemplateName": "t", "EnvVars": "{{ params.variables }}"},
    ],
)
def test_what_the_template_may_add_is_not_missed_at_parse(task: dict[str, Any]) -> None:
    submit(task)


def test_the_rules_between_tasks_hold() -> None:
    one, two = {"TaskTemplateName": "t", "TaskName": "a"}, {"TaskTemplateName": "t", "TaskName": "b"}
    forth, back = {"StartTask": "a", "EndTask": "b"}, {"StartTask": "b", "EndTask": "a"}
    submit(one, two, Dependences=[forth])
    with pytest.raises(e.InvalidRequest, match="unique"):
        submit(one, one)
    with pytest.raises(e.InvalidRequest, match="cycle"):
        submit(one, two, Dependences=[forth, back])
    with pytest.raises(e.InvalidRequest, match="names task 'c'"):
        submit(one, two, Dependences=[{"StartTask": "a", "EndTask": "c"}])
    nameless = {"TaskTemplateName": "t"}
    submit(nameless, nameless, one, Dependences=[{"StartTask": "a", "EndTask": "its template's name"}])
    with pytest.raises(e.InvalidRequest, match=r"Job\.Priority"):
        submit(nameless, Priority=101)


def test_secrets_of_overrides_are_kept_apart() -> None:
    docker = Docker(image="i", password="docker-secret")
    operator = submit({"TaskTemplateName": "t", "Application": {"Docker": docker}})
    assert "docker-secret" not in json.dumps(operator.job)


# -- when it runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["id", "name"])
@pytest.mark.parametrize("snake", [False, True])
def test_a_job_is_made_of_a_template_and_overrides(
    template: str, content: dict[str, Any], calls: list[str], by: str, snake: bool
) -> None:
    key = ("task_template_" if snake else "TaskTemplate") + (by if snake else by.capitalize())
    overrides = {"task_instance_num" if snake else "TaskInstanceNum": "{{ n }}"}
    word = {"EnvVars": [{"Name": "WORD", "Value": "{{ word }}"}, {"Name": "OTHER", "Value": None}]}
    reference = {key: "{{ template }}"}
    operator = submit({**reference, **overrides, **word})
    given = {"id": template, "name": NAME}[by]
    made = rendered(operator, n=2, word="hi", template=given).final_job().to_wire()["Tasks"]
    wanted = {**content, "TaskInstanceNum": 2, "EnvVars": [{"Name": "WORD", "Value": "hi"}]}
    assert made == [wanted]
    assert calls == ["DescribeTaskTemplates"]


def test_it_runs_and_asks_once(template: str, calls: list[str], emulator: Emulator) -> None:
    operator = submit(
        {"TaskTemplateName": NAME, "TaskName": "a"},
        {"TaskTemplateName": NAME, "TaskName": "b", "EnvVars": [{"Name": "WORD", "Value": "bye"}]},
        *job("true", TaskName="c")["Tasks"],
        Dependences=[{"StartTask": "a", "EndTask": "b"}],
        logs="all",
    )
    context = Task().next_try()
    job_id = operator.execute(context)
    assert calls.count("DescribeTaskTemplates") == 1
    words = [[v["Value"] for v in task["EnvVars"] if v["Name"] == "WORD"] for task in submitted(str(job_id))["Tasks"]]
    assert words == [["hello"], ["bye"], []]
    summary = instance_in(context).xcoms["tcbatch_summary"]
    assert {name: task["instances"] for name, task in summary["tasks"].items()} == {
        name: {"SUCCEED": 1} for name in "abc"
    }
    assert template in operator._template_ids
    expected = TCBatchHook().settings.template_url(template)
    assert instance_in(context).xcoms[TCBatchTaskTemplateLink.key] == expected


def test_a_job_without_templates_asks_for_none_and_has_no_button(connection: str, calls: list[str]) -> None:
    context = Task().next_try()
    submit(*job("true")["Tasks"]).execute(context)
    assert "DescribeTaskTemplates" not in calls
    assert TCBatchTaskTemplateLink.key not in instance_in(context).xcoms


def test_ids_and_names_are_asked_for_together(template: str, content: dict[str, Any], calls: list[str]) -> None:
    tasks = [{"TaskTemplateId": template, "TaskName": f"i{n}"} for n in range(3)]
    tasks += [{"TaskTemplateName": NAME, "TaskName": f"n{n}"} for n in range(3)]
    assert len(submit(*tasks).final_job().tasks) == 6
    assert calls == ["DescribeTaskTemplates"] * 2, "the API takes ids or filters, not both"


def test_after_a_deferral_the_summary_is_of_what_was_submitted(
    template: str, content: dict[str, Any], emulator: Emulator
) -> None:
    operator, task = submit({"TaskTemplateName": NAME}, deferrable=True), Task()
    context = task.next_try()
    with pytest.raises(TaskDeferred) as raised:
        operator.execute(context)
    job_id = raised.value.trigger.job_id
    state = emulator.wait_job(job_id)
    TCBatchHook().modify_task_template(template, task={**content, "TaskInstanceNum": 9})
    event = {"status": "ended", "job_id": job_id, "state": state, "source": "poll", "submitted_at": 1.0}
    resumed = submit({"TaskTemplateName": NAME}, deferrable=True)
    resumed.execute_complete(context, event)
    assert instance_in(context).xcoms["tcbatch_summary"]["tasks"]["main"]["instances"] == {"SUCCEED": 1}


def test_render_shows_the_job_in_full(template: str, content: dict[str, Any]) -> None:
    content["Authentications"] = [{"Scene": "COS", "SecretId": "id", "SecretKey": "the-secret-of-the-template"}]
    TCBatchHook().modify_task_template(template, task=content)
    wire = submit({"TaskTemplateName": NAME, "Timeout": 7}).render_request(Task().next_try())
    [task] = wire["Job"]["Tasks"]
    assert (task["Timeout"], task["Application"]["Command"]) == (7, content["Application"]["Command"])
    assert task["Authentications"][0]["SecretKey"] == "***"
    assert "the-secret-of-the-template" not in json.dumps(wire)


def test_a_templates_secrets_are_sent_and_masked_in_the_log(template: str, content: dict[str, Any]) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    content["Authentications"] = [{"Scene": "COS", "SecretId": "id", "SecretKey": "another-secret-of-a-template"}]
    TCBatchHook().modify_task_template(template, task=content)
    made = submit({"TaskTemplateName": NAME}).final_job().to_wire()
    assert made["Tasks"][0]["Authentications"] == content["Authentications"]
    assert "another-secret" not in str(redact("the key is another-secret-of-a-template"))


def test_a_secret_that_the_service_hides_is_not_sent_as_stars(template: str, content: dict[str, Any]) -> None:
    content["Authentications"] = [{"Scene": "COS", "SecretId": "id", "SecretKey": "*****"}]
    TCBatchHook().modify_task_template(template, task=content)
    with pytest.raises(e.InvalidRequest, match=r"Authentications\[0\]\.SecretKey as stars"):
        submit({"TaskTemplateName": NAME}).final_job()
    keys = [{"Scene": "COS", "SecretId": "id", "SecretKey": "mine"}]
    [task] = submit({"TaskTemplateName": NAME, "Authentications": keys}).final_job().to_wire()["Tasks"]
    assert task["Authentications"] == keys


# -- what can be wrong -------------------------------------------------------------------------------------


def test_templates_that_do_not_exist_are_all_named(template: str) -> None:
    operator = submit(
        {"TaskTemplateName": "nowhere"}, {"TaskTemplateName": NAME}, {"TaskTemplateId": "task-tmpl-00000000"}
    )
    with pytest.raises(e.NotFound) as caught:
        operator.execute(Task().next_try())
    assert "Job.Tasks[0] from task template 'nowhere'" in str(caught.value)
    assert "Job.Tasks[2] from task template 'task-tmpl-00000000'" in str(caught.value)
    assert NAME not in str(caught.value)


def test_a_job_that_is_wrong_after_the_merge_says_where_it_comes_from(template: str) -> None:
    operator = submit({"TaskTemplateName": NAME, "ComputeEnv": None})
    with pytest.raises(PermanentInvalidRequest) as caught:
        operator.execute(Task().next_try())
    assert "neither is given" in str(caught.value)
    assert f"Job.Tasks[0] from task template '{NAME}'" in str(caught.value)
    with pytest.raises(e.InvalidRequest, match="unique"):
        submit({"TaskTemplateName": NAME}, {"TaskTemplateName": NAME}).final_job()


def test_an_xcom_that_is_not_there_is_no_template() -> None:
    operator = submit({"TaskTemplateName": "{{ name }}"})
    with pytest.raises(e.InvalidRequest, match="must be a string that is not empty"):
        rendered(operator, name="").final_job()


@pytest.mark.parametrize("style", ["exact", "contains"])
def test_a_name_means_the_whole_name_and_the_oldest_of_its_kind(
    template: str, content: dict[str, Any], emulator: Emulator, style: str
) -> None:
    """Neither what the filter takes for a name nor whether names are unique is documented."""
    emulator.configure(name_filter=style)
    hook = TCBatchHook()
    others = [
        hook.create_task_template(NAME + "-more", {**content, "Timeout": 1}),
        hook.create_task_template(NAME, {**content, "Timeout": 2}),
    ]
    try:
        # Two of the same second are told apart by their ids.
        emulator.on_loop(lambda services: setattr(services.batch.templates[template], "created_at", 0.0))
        operator = submit({"TaskTemplateName": NAME})
        assert operator.final_job().tasks[0].timeout == 600
        assert operator._template_ids == [template]
    finally:
        hook.delete_task_templates(others)


@pytest.mark.parametrize("empty", [None, "", []])
def test_a_field_that_the_service_shows_empty_was_never_set(template: str, emulator: Emulator, empty: Any) -> None:
    def fill(services: Services) -> None:
        services.batch.templates[template].task |= {"EnvId": empty, "OutputMappings": [], "MaxRetryCount": None}

    emulator.on_loop(fill)
    [task] = submit({"TaskTemplateName": NAME}).final_job().to_wire()["Tasks"]
    assert not task.keys() & {"EnvId", "OutputMappings", "MaxRetryCount"}


def test_many_names_are_asked_for_without_a_filter(template: str, calls: list[str]) -> None:
    found = TCBatchHook().task_templates_named([NAME, *(f"other-{number}" for number in range(20))])
    assert list(found) == [NAME]
    assert TCBatchHook().task_templates_named([]) == {}
    assert calls == ["DescribeTaskTemplates"]


# -- submitted once ----------------------------------------------------------------------------------------


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The worker is killed while the answer to its next SubmitJob is on the way."""
    real = ApiClient.call

    def arm() -> None:
        def call(self: ApiClient, action: Any, **options: Any) -> Any:
            if action.name() == "SubmitJob":
                monkeypatch.setattr(ApiClient, "call", real)
                real(self, action, **options)
                raise KeyboardInterrupt
            return real(self, action, **options)

        monkeypatch.setattr(ApiClient, "call", call)

    return arm


def repaired(task: Task, template: str, content: dict[str, Any], *, changed: bool) -> tuple[str, str]:
    """The jobs of a failed try and of the one after it."""
    hook = TCBatchHook()
    failing = {**content, "Application": {"DeliveryForm": "LOCAL", "Command": "exit 3"}}
    hook.modify_task_template(template, task=failing)
    jobs = []
    for number in range(2):
        operator = submit({"TaskTemplateName": NAME}, on_retry="repair")
        context = task.next_try()
        with pytest.raises(e.JobFailed):
            operator.execute(context)
        jobs.append(instance_in(context).xcoms["job_id"])
        if changed and number == 0:
            hook.modify_task_template(template, task={**failing, "Timeout": 601})
    return jobs[0], jobs[1]


def test_a_retry_repairs_the_job_while_its_template_stays(template: str, content: dict[str, Any]) -> None:
    first, second = repaired(Task(retries=2), template, content, changed=False)
    assert first == second


def test_a_template_that_changed_makes_another_job(template: str, content: dict[str, Any]) -> None:
    first, second = repaired(Task(retries=2), template, content, changed=True)
    assert first != second
    assert submitted(second)["Tasks"][0]["Timeout"] == 601


@pytest.mark.parametrize("changed", [False, True])
def test_a_crash_never_makes_a_second_job(
    template: str, content: dict[str, Any], tmp_path: Path, crash: Callable[[], None], changed: bool
) -> None:
    gate = tmp_path / "gate"
    command = f"until [ -e {gate} ]; do sleep 0.05; done"
    waiting = {**content, "Application": {"DeliveryForm": "LOCAL", "Command": command}}
    hook, task = TCBatchHook(), Task(retries=2)
    hook.modify_task_template(template, task=waiting)
    before = {view.job_id for view in hook.describe_jobs()}
    crash()
    with pytest.raises(KeyboardInterrupt):
        submit({"TaskTemplateName": NAME}, deferrable=True).execute(task.next_try())
    if changed:
        hook.modify_task_template(template, task={**waiting, "Timeout": 601})
    with pytest.raises(TaskDeferred):
        submit({"TaskTemplateName": NAME}, deferrable=True).execute(task.next_try())
    made = {view.job_id for view in hook.describe_jobs()} - before
    gate.touch()
    assert made == {task.record["job_id"]}


def running(content: dict[str, Any], gate: Path) -> dict[str, Any]:
    """A template whose instances run until the test ends."""
    command = f"until [ -e {gate} ]; do sleep 0.05; done"
    path = "cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/x/"
    redirect = {"StdoutRedirectPath": path, "StderrRedirectPath": path}
    return {**content, "Application": {"DeliveryForm": "LOCAL", "Command": command}, "RedirectInfo": redirect}


@pytest.mark.parametrize("answer", ["came", "was lost", "was lost, and the job is listed late"])
def test_a_job_that_is_there_does_not_need_its_template(
    template: str,
    content: dict[str, Any],
    tmp_path: Path,
    calls: list[str],
    crash: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    """The template is deleted between two tries; the second one finds the job, by its id or by its mark."""
    if answer.endswith("late"):
        real = lookup.find_job
        monkeypatch.setattr(
            submission, "find_job", lambda *args, patient=True: real(*args, patient=True) if patient else None
        )
    hook, task, gate = TCBatchHook(), Task(retries=2), tmp_path / "gate"
    hook.modify_task_template(template, task=running(content, gate))
    before = {view.job_id for view in hook.describe_jobs()}
    operator = submit({"TaskTemplateName": NAME}, deferrable=True)
    if answer != "came":
        crash()
    with pytest.raises(TaskDeferred if answer == "came" else KeyboardInterrupt):
        operator.execute(task.next_try())
    hook.delete_task_templates([template])
    calls.clear()
    context = task.next_try()
    with pytest.raises(TaskDeferred) as again:
        submit({"TaskTemplateName": NAME}, deferrable=True).execute(context)
    gate.touch()
    assert {view.job_id for view in hook.describe_jobs()} - before == {again.value.trigger.job_id}
    assert again.value.trigger.progress is False, "what is known of the job comes from the job"
    assert "path=x%2F" in instance_in(context).xcoms[TCBatchLogsLink.key]
    assert ("DescribeTaskTemplates" in calls) is answer.endswith("late"), "read only to send the same again"


def test_what_is_to_be_submitted_needs_its_template(template: str, content: dict[str, Any], emulator: Emulator) -> None:
    """The job of the try before failed: a repair can do without, another job can't."""
    failing = {**content, "Application": {"DeliveryForm": "LOCAL", "Command": "exit 3"}}
    hook, task = TCBatchHook(), Task(retries=3)
    hook.modify_task_template(template, task=failing)
    context = task.next_try()
    with pytest.raises(e.JobFailed):
        submit({"TaskTemplateName": NAME}).execute(context)
    hook.delete_task_templates([template])
    repairing = task.next_try()
    with pytest.raises(e.JobFailed):
        submit({"TaskTemplateName": NAME}, on_retry="repair").execute(repairing)
    assert instance_in(repairing).xcoms["job_id"] == instance_in(context).xcoms["job_id"]
    with pytest.raises(e.NotFound, match="no such template"):
        submit({"TaskTemplateName": NAME}).execute(task.next_try())
